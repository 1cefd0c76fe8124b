"""Scenes to examine hearing with: recordings whose text is known, each as a whole, at its own speed and as it was recorded.

What counts are the words of the vocabulary in the text; see `hearing_marks`. Their times come from the aligner, so that a
latency measured here is only as exact as it is (about 25 ms on average, some words by more than 100).
"""

from __future__ import annotations

from collections.abc import Iterator
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


def examination_readings(transcripts: Path, folder: Path | None = None) -> Iterator[RenderedScene]:
    """Yield a scene for each recording with its text that holds a word of the vocabulary, in the order of their names.

    `transcripts` is what the command `transcribe --split test` has written.

    Raises:
        SpeechDataMissingError: there are no recordings with their text.
        BadTrainConfigError: the transcripts are of people to train on.
    """
    file = TranscriptFile.load(transcripts)
    if file.split is not Split.HELD_OUT:
        raise BadTrainConfigError("transcripts", expected="of held-out people", got=f"{file.split} people")
    readers = Readers(spoken_texts(folder), file.files)
    sound = SceneSound(readers)
    for number, recording in enumerate(readers.recordings):
        stage = Stage(TASK, "test", number, estimated_cast())
        readers.read_whole(stage, recording)
        scene = stage.finish()
        yield RenderedScene(scene, sound.render(scene, AS_RECORDED))
