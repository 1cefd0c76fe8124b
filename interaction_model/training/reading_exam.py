"""Scenes to examine hearing with: recordings whose text is known, each as a whole, at its own speed and as it was recorded.

What counts are the words of the vocabulary in the text; see `hearing_marks`. Their times come from the aligner, so that a
latency measured here is only as exact as it is (about 25 ms on average, some words by more than 100).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from microturn.interaction_model.training._errors import BadTrainConfigError
from microturn.interaction_model.training.cast import estimated_cast
from microturn.interaction_model.training.conditions import Condition
from microturn.interaction_model.training.exam_scenes import RenderedScene
from microturn.interaction_model.training.reading_task import TASK, Readers
from microturn.interaction_model.training.real_speech import spoken_texts
from microturn.interaction_model.training.rooms import Microphone, Room
from microturn.interaction_model.training.scene_sound import SceneSound
from microturn.interaction_model.training.speakers import Split
from microturn.interaction_model.training.stage import Stage
from microturn.interaction_model.training.transcripts import TranscriptFile

AS_RECORDED = Condition(Room(0.0, 0.0, 0), Microphone(20.0, 8000.0), (), 0.0, False, 0)
"""No room and no noise but those of the recording."""


class ExamReadings:
    """A scene for each recording with its text that holds a word of the vocabulary, in the order of their names.

    Blocks; one thread at a time.
    """

    def __init__(self, transcripts: Path, folder: Path | None = None) -> None:
        """Use a file that the command `transcribe --split test` has written, and the folder with the recordings.

        Raises:
            SpeechDataMissingError: there are no recordings with their text.
            BadTrainConfigError: the transcripts are of people to train on, or of none of these recordings.
        """
        file = TranscriptFile.load(transcripts)
        if file.split is not Split.HELD_OUT:
            raise BadTrainConfigError(
                "transcripts", expected="of held-out people", got=f"{file.split} people"
            )
        texts = spoken_texts(folder)
        if file.files.keys().isdisjoint(path.name for path in texts):
            expected = "of the recordings that are there"
            raise BadTrainConfigError("transcripts", expected=expected, got=f"{len(file.files)} of others")
        self._readers = Readers(texts, file.files)
        self._sound = SceneSound(self._readers)
        self.digest = hashlib.sha256(transcripts.read_bytes()).hexdigest()
        """Of the file."""

    def __len__(self) -> int:
        return len(self._readers.recordings)

    def rendered(self, number: int) -> RenderedScene:
        """Write the scene of a recording, from 0."""
        stage = Stage(TASK, "test", number, estimated_cast())
        self._readers.read_whole(stage, self._readers.recordings[number])
        scene = stage.finish()
        return RenderedScene(scene, self._sound.render(scene, AS_RECORDED))
