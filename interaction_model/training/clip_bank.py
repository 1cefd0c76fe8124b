"""A bank of clips: words and phrases by many speakers, made once and read many times.

    python -m microturn.interaction_model.training.clip_bank OUT --minutes 1200 --word-speakers 200 --seed 1

Sound is kept at 16 kHz in 16 bits, 115 MB an hour. A build that was killed goes on where it was; the same arguments
give the same bytes with the same versions of the engines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track

from microturn.interaction_model.native.vocabulary import WORDS, slot
from microturn.interaction_model.training._errors import SpeechDataMissingError
from microturn.interaction_model.training.clip_plan import SHARD_SAMPLES, ClipPlan, Line
from microturn.interaction_model.training.job_pool import done_in_order
from microturn.interaction_model.training.shard_folder import Arrays, Shard, ShardFolder, shard_files
from microturn.interaction_model.training.speakers import Engine, Split
from microturn.interaction_model.training.synthesis import Synthesis
from microturn.interaction_model.training.utterances import SpokenWord, Synthesizer, Utterance, trimmed
from microturn.protocols import INPUT_RATE_HZ, MicroturnError, Samples

MARGIN_SAMPLES = INPUT_RATE_HZ // 20
"""Silence that is kept before the first and after the last word of a clip: at most 50 ms."""
_FULL_SCALE = 32767


def build(plan: ClipPlan, out: Path, *, jobs: int = 1) -> None:
    """Make every file of the plan that is not there yet, with a progress bar; blocks, in `jobs` processes.

    Raises:
        BankMismatchError: `out` holds a bank of another plan.
        SpeechExtraMissingError: hibari is wanted and not installed.
        SpeechProgramMissingError: a program is wanted and not on PATH.
    """
    folder = ShardFolder(out, plan.as_written())
    names = folder.missing(plan.names())
    work = partial(_make, plan, out)
    for _ in track(done_in_order(work, names, jobs), description="clips", total=len(names)):
        pass


def render_shard(lines: Iterable[Line], synthesizer: Synthesizer) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays and the note of a file: clips are made until the lines end or the file is full."""
    shard = _ShardBuilder()
    for line in lines:
        shard.add(trimmed(synthesizer.say(line.words, line.speaker, line.seed), MARGIN_SAMPLES))
        if shard.samples >= SHARD_SAMPLES:
            break
    return shard.arrays(), {"speakers": shard.speakers}


class ClipBank:
    """Reads a bank; clips have indices from 0. May be shared with processes that are forked from this one."""

    def __init__(self, folder: Path) -> None:
        """Read where the clips lie; their sound is read when it is asked for.

        Raises:
            SpeechDataMissingError: there are no clips in the folder.
        """
        self._shards = [_ShardReader(Shard(file)) for file in shard_files(folder)]
        if not self._shards:
            raise SpeechDataMissingError("a bank of clips", folder)
        self._firsts = np.cumsum([0, *(len(shard.clip_starts) - 1 for shard in self._shards)])
        self._alone: dict[str, list[int]] = {word: [] for word in WORDS}
        self._phrases: list[int] = []
        for clip in range(len(self)):
            words = self.words(clip)
            (self._alone[words[0]] if len(words) == 1 else self._phrases).append(clip)

    def __len__(self) -> int:
        return int(self._firsts[-1])

    @property
    def hours(self) -> float:
        """Length of all clips."""
        return sum(int(shard.clip_starts[-1]) for shard in self._shards) / INPUT_RATE_HZ / 3600

    @property
    def phrases(self) -> Sequence[int]:
        """Indices of the clips with several words."""
        return self._phrases

    def alone(self, word: str) -> Sequence[int]:
        """Return the indices of the clips of a single word.

        Raises:
            KeyError: the word is none of the vocabulary.
        """
        return self._alone[word]

    def words(self, clip: int) -> tuple[str, ...]:
        """Return the words of a clip without reading its sound."""
        shard, place = self._place(clip)
        return tuple(WORDS[at] for at in shard.slots[shard.words_of(place)].tolist())

    def speaker(self, clip: int) -> str:
        """Return the name of the speaker of a clip."""
        shard, place = self._place(clip)
        return shard.speaker(place)

    def clip(self, clip: int) -> Utterance:
        """Read a clip."""
        shard, place = self._place(clip)
        spans = shard.spans[shard.words_of(place)].tolist()
        words = zip(self.words(clip), spans, strict=True)
        spoken = tuple(SpokenWord(word, start, end) for word, (start, end) in words)
        return Utterance(shard.audio(place), spoken, shard.speaker(place))

    def _place(self, clip: int) -> tuple[_ShardReader, int]:
        if not 0 <= clip < len(self):
            raise IndexError(f"clip must be from 0 to {len(self) - 1}, got {clip!r}")
        at = int(np.searchsorted(self._firsts, clip, side="right")) - 1
        return self._shards[at], clip - int(self._firsts[at])


class _ShardBuilder:
    """Clips on their way into a file."""

    def __init__(self) -> None:
        self.speakers: list[str] = []
        self.samples = 0
        self._audio: list[npt.NDArray[np.int16]] = []
        self._words: list[tuple[SpokenWord, ...]] = []
        self._of: list[int] = []

    def add(self, utterance: Utterance) -> None:
        if utterance.speaker not in self.speakers:
            self.speakers.append(utterance.speaker)
        scaled = np.round(np.clip(utterance.audio, -1.0, 1.0) * _FULL_SCALE)
        self._audio.append(scaled.astype(np.int16))
        self._words.append(utterance.words)
        self._of.append(self.speakers.index(utterance.speaker))
        self.samples += utterance.audio.size

    def arrays(self) -> Arrays:
        flat = [word for words in self._words for word in words]
        return {
            "audio": np.concatenate(self._audio),
            "clip_starts": _starts([audio.size for audio in self._audio]),
            "word_starts": _starts([len(words) for words in self._words]),
            "slots": np.array([slot(word.word) for word in flat], np.int16),
            "spans": np.array([(word.start_sample, word.end_sample) for word in flat], np.int32),
            "speakers": np.array(self._of, np.int32),
        }


class _ShardReader:
    """A file of clips."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self.clip_starts = shard.whole("clip_starts")
        self._word_starts = shard.whole("word_starts")
        self.slots = shard.whole("slots")
        self.spans = shard.whole("spans")
        self._speakers = shard.whole("speakers")

    def words_of(self, place: int) -> slice:
        return slice(int(self._word_starts[place]), int(self._word_starts[place + 1]))

    def speaker(self, place: int) -> str:
        return str(self._shard.note["speakers"][int(self._speakers[place])])

    def audio(self, place: int) -> Samples:
        part = self._shard.part("audio", int(self.clip_starts[place]), int(self.clip_starts[place + 1]))
        return part.astype(np.float32) / np.float32(_FULL_SCALE)


def _starts(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *lengths], dtype=np.int64)


@cache
def _synthesis(engines: tuple[Engine, ...]) -> Synthesis:
    """Load the engines once in each process."""
    return Synthesis(engines)


def _make(plan: ClipPlan, out: Path, name: str) -> None:
    arrays, note = render_shard(plan.lines(name), _synthesis(plan.engines))
    ShardFolder(out, plan.as_written()).write(name, arrays, note)


def main(
    out: Annotated[Path, typer.Argument(help="Folder of the bank; one that was begun is gone on with.")],
    minutes: Annotated[int, typer.Option(min=0, help="Length of all phrases.")] = 1200,
    word_speakers: Annotated[int, typer.Option(min=0, help="Speakers that say every word alone.")] = 200,
    seed: Annotated[int, typer.Option(help="Banks of one seed are equal.")] = 0,
    split: Annotated[Split, typer.Option(help="Whose voices: speakers are never in both.")] = Split.TRAIN,
    engine: Annotated[list[Engine] | None, typer.Option(help="Once for each; hibari if none.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Make a bank of clips of the native model's words."""
    engines = tuple(engine or (Engine.HIBARI,))
    try:
        build(ClipPlan(minutes, word_speakers, seed, split, engines), out, jobs=jobs)
        bank = ClipBank(out)
    except MicroturnError as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{len(bank)} clips, {bank.hours:.2f} hours, {len(bank.phrases)} of them phrases")


if __name__ == "__main__":
    typer.run(main)
