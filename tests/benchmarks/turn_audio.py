"""Make the labelled clips of `tests/benchmarks/turns` from their script.

Every clip is spoken, laid on noise, heard by a recogniser, and written only if it is intelligible; clips that are not
are named at the end, and then the exit status is 1.

    python tests/benchmarks/turn_audio.py [--librispeech FOLDER]

Needs what `conversation_audio.py` needs. FOLDER holds LibriSpeech's utterances as FLAC; without it the labels of
the human utterances stay as they are.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from intelligibility import WORST_ERROR_RATE, Listener
from kokoro_voice import KokoroVoice
from platformdirs import user_cache_path
from pydantic import BaseModel, ConfigDict
from recording import PlacedLine, mix, write_flac, write_labels
from spoken_line import SAMPLE_RATE_HZ, parse_marked, room_threshold_db, silences, speak_line, speech_span
from turn_set import FOLDER, LABELS, Clip, Group, HumanUtterance, Kind, TurnSet, load_turn_set, read_sound

HUMAN_UTTERANCES = (
    "1998-15444-0004",
    "2033-164914-0001",
    "2033-164914-0003",
    "2033-164914-0007",
    "2414-128291-0001",
    "2414-128291-0005",
    "2414-128291-0007",
    "2609-156975-0001",
    "2609-156975-0005",
    "2609-156975-0009",
)
"""Readings by four people, in rooms quiet enough for the end of speech to be measured by loudness."""

HUMAN_PAUSE_MS = 300
"""A silence at least as long counts as a pause of a human reader."""


class ClipScript(BaseModel):
    """What is said in one clip."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    voice: str
    text: str
    kind: Kind | None = None
    say: str | None = None


class SetScript(BaseModel):
    """The script of the whole set; lengths are those of the noise around the speech."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    noise_dbfs: float
    lead_s: float
    tail_s: float
    overlap_tail_s: float
    turn: list[ClipScript]
    barge_in: list[ClipScript]
    backchannel: list[ClipScript]

    def entries(self) -> Iterator[tuple[Group, Kind, ClipScript]]:
        """All clips with their group and what is expected of an assistant."""
        for entry in self.turn:
            yield "turn", entry.kind or "delegate", entry
        for entry in self.barge_in:
            yield "barge_in", "interrupt", entry
        for entry in self.backchannel:
            yield "backchannel", "backchannel", entry


class ClipMaker:
    """Speaks, checks and writes clips."""

    def __init__(self, script: SetScript, folder: Path, cache: Path) -> None:
        self._script = script
        self._folder = folder
        self._voice = KokoroVoice(cache)
        self._listener = Listener()

    def make(self, group: Group, kind: Kind, entry: ClipScript) -> Clip:
        """Make one clip; its file is written if it can be understood, and removed if not."""
        line = speak_line(self._voice, entry.say or entry.text, name=entry.voice)
        placed = PlacedLine(round(self._script.lead_s * 1000), line)
        tail_s = self._script.tail_s if group == "turn" else self._script.overlap_tail_s
        sound = mix([placed], placed.end_ms + round(tail_s * 1000), entry.id, self._script.noise_dbfs)
        heard = self._listener.hear(sound[: (placed.end_ms + 500) * SAMPLE_RATE_HZ // 1000])
        text = parse_marked(entry.text).text
        labels = placed.labels()
        labels["words"] = [
            [word, *times] for word, (_, *times) in zip(text.split(), labels["words"], strict=True)
        ]
        clip = Clip(
            id=entry.id,
            group=group,
            kind=kind,
            voice=entry.voice,
            text=text,
            heard=heard,
            phoneme_error_rate=round(self._listener.error_rate(text, heard), 3),
            **labels,
        )
        if clip.phoneme_error_rate <= WORST_ERROR_RATE:
            write_flac(self._folder / clip.file, sound)
        else:
            (self._folder / clip.file).unlink(missing_ok=True)
        return clip


def human_labels(folder: Path) -> tuple[HumanUtterance, ...]:
    """Measure where real readers speak and pause."""
    labels: list[HumanUtterance] = []
    for name in HUMAN_UTTERANCES:
        sound = read_sound(folder / f"{name}.flac")
        threshold_db = room_threshold_db(sound)
        span = speech_span(sound, threshold_db)
        found = silences(sound, HUMAN_PAUSE_MS, threshold_db)
        pauses = tuple((pause.start_ms, pause.end_ms) for pause in found)
        labels.append(
            HumanUtterance(
                utterance=name, speech_start_ms=span.start_ms, speech_end_ms=span.end_ms, pauses=pauses
            )
        )
    return tuple(labels)


def main() -> None:
    """Read the command line and make the set."""
    parser = argparse.ArgumentParser(description="Make the labelled clips of single turns.")
    parser.add_argument("--cache", type=Path, default=user_cache_path("microturn") / "kokoro")
    parser.add_argument("--librispeech", type=Path, help="folder of LibriSpeech utterances as FLAC")
    arguments = parser.parse_args()
    script = SetScript.model_validate(tomllib.loads((FOLDER / "script.toml").read_text(encoding="utf-8")))
    maker = ClipMaker(script, FOLDER, arguments.cache)
    clips = [maker.make(*entry) for entry in script.entries()]
    kept = tuple(clip for clip in clips if clip.phoneme_error_rate <= WORST_ERROR_RATE)
    human = human_labels(arguments.librispeech) if arguments.librispeech else load_turn_set().human
    labels = TurnSet(sample_rate_hz=SAMPLE_RATE_HZ, clips=kept, human=human)
    write_labels(FOLDER / LABELS, labels.model_dump(mode="json"))
    dropped = [clip for clip in clips if clip not in kept]
    for clip in dropped:
        print(f"{clip.id} in {clip.voice} cannot be understood: it was heard as {clip.heard!r}")
    print(f"{len(kept)} clips and {len(human)} human utterances are labelled, {len(dropped)} clips left out")
    sys.exit(1 if dropped else 0)


if __name__ == "__main__":
    main()
