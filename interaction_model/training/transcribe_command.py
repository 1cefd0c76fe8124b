"""The command that writes recordings of people down: `python -m microturn.interaction_model.training transcribe OUT`.

A file that was begun is gone on with. What is heard of those who are trained on comes from the recogniser; the recordings
to examine with have a text, of which only the times of its words are looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from microturn.interaction_model.training._errors import BadTrainConfigError
from microturn.interaction_model.training.audio_rate import read_sound
from microturn.interaction_model.training.real_speech import spoken_texts, talk_files
from microturn.interaction_model.training.scene import Split
from microturn.interaction_model.training.speakers import Split as SpeakerSplit
from microturn.interaction_model.training.transcriber import Transcriber, recognizer_name
from microturn.interaction_model.training.transcripts import Transcript, TranscriptFile

GIVEN = "the text that belongs to the recordings"


def transcribe(
    out: Annotated[Path, typer.Argument(help="File of transcripts; one that was begun is gone on with.")],
    split: Annotated[
        Split, typer.Option(help="People to train on, by the recogniser; or to examine with, by their text.")
    ] = "train",
) -> None:
    """Write down what people say in recordings; MICROTURN_SPEECH_DATA names their folder."""
    file = make_transcripts(out, split)
    words = sum(len(each.words) for each in file.files.values())
    typer.echo(f"{len(file.files)} recordings, {words} words")


def make_transcripts(
    out: Path, split: Split, load: Callable[[], Transcriber] = Transcriber.shipped
) -> TranscriptFile:
    """Write what is not written down yet, with a progress bar; blocks. Every recording is saved when it is done.

    Raises:
        SpeechDataMissingError: there are no recordings.
        BadTrainConfigError: the file holds something else.
        MicroturnError: the recogniser cannot be loaded.
    """
    texts: Mapping[Path, tuple[str, ...]] = {} if split == "train" else spoken_texts()
    recordings = talk_files(SpeakerSplit.TRAIN) if split == "train" else list(texts)
    file = _begun(out, split)
    done: dict[str, Transcript] = dict(file.files)
    missing = [path for path in recordings if path.name not in done]
    transcriber = load() if missing else None
    for path in track(missing, description="recordings"):
        assert transcriber is not None  # it is loaded if anything is missing
        audio = read_sound(path)
        text = texts.get(path)
        done[path.name] = transcriber.understood(audio) if text is None else transcriber.given(audio, text)
        file = TranscriptFile(file.split, file.recognizer, done)
        file.save(out)
    return file


def _begun(out: Path, split: Split) -> TranscriptFile:
    wanted = TranscriptFile(
        SpeakerSplit.TRAIN if split == "train" else SpeakerSplit.HELD_OUT,
        recognizer_name() if split == "train" else GIVEN,
        {},
    )
    if not out.exists():
        return wanted
    found = TranscriptFile.load(out)
    if (found.split, found.recognizer) != (wanted.split, wanted.recognizer):
        expected = f"of {wanted.split} people by {wanted.recognizer}"
        raise BadTrainConfigError(
            "transcripts", expected=expected, got=f"{found.split} by {found.recognizer}"
        )
    return found
