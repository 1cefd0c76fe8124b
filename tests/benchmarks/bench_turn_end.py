"""How soon the judge of turn ends answers, and how often it cuts people off at a thinking pause.

    python tests/benchmarks/bench_turn_end.py [--speech FOLDER] [--voices 2] [--keep FILE]
    python tests/benchmarks/bench_turn_end.py --record tuning --keep BEATS.jsonl

The first line judges the held-out sentences and voices: nothing was tuned on either. The second writes what the
ears know at each beat of the tuning part, for `fit_turn_end.py`. A delay is counted from the last loud 10 ms of
speech to the beat at which the decision falls, with the beat at a random phase and evidence that is one beat old, as
in a live session; the voice then needs about 30 ms more to its first sound. A cut-off is a decision inside a pause.
Prints a table for each source of voices, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from turn_end_corpus import Clip, Part, exemplar_clips, human_clip, spoken_clips, turn_set_clips
from turn_end_replay import Beat, Outcome, outcomes, read_beats, verdicts, write_beats

from microturn.interaction_model.cascade.turn_end import TurnEndJudge, TurnEndWeights
from microturn.interaction_model.cascade.voice_model import VoiceModel

READERS: dict[Part, tuple[str, int]] = {"tuning": ("speakers", 80), "held_out": ("dev", 50)}
"""Folder of LibriSpeech recordings of each part and how many of them are used."""


def clips(part: Part, voices_each: int, speech: Path | None) -> Iterator[Clip]:
    """Yield all clips of a part."""
    model = VoiceModel()
    yield from spoken_clips(part, voices_each, model)
    if part == "tuning":
        yield from exemplar_clips(model)
    if part == "held_out":
        yield from turn_set_clips()
    if speech is not None:
        folder, count = READERS[part]
        yield from (
            human_clip(path) for path in sorted((speech / "librispeech" / folder).glob("*.flac"))[:count]
        )


def ranking(scores: list[float], ends: list[bool]) -> float:
    """Return the area under the ROC curve: how often an end scores above a pause."""
    above = [
        s > t
        for s, e in zip(scores, ends, strict=True)
        if e
        for t, f in zip(scores, ends, strict=True)
        if not f
    ]
    return float(np.mean(above)) if above else float("nan")


def row(beats: list[Beat], weights: TurnEndWeights) -> dict[str, float]:
    """Return the figures of some beats."""
    silences = verdicts(beats, TurnEndJudge(weights))
    found: list[Outcome] = outcomes(silences, weights)
    delays = [outcome.delay_ms for outcome in found if outcome.is_end]
    cuts = [outcome.decided for outcome in found if not outcome.is_end]
    first = [(beat, chance) for seen in silences for beat, chance in seen if 200 <= beat.silence_ms < 400]
    ends = [beat.is_end for beat, _ in first]
    p50, p90, p95 = (float(p) for p in np.percentile(delays, [50, 90, 95]).round())
    return {
        "ends": len(delays),
        "delay_p50_ms": p50,
        "delay_p90_ms": p90,
        "delay_p95_ms": p95,
        "pauses": len(cuts),
        "cut_off": round(float(np.mean(cuts)), 4) if cuts else float("nan"),
        "roc_area": round(ranking([chance for _, chance in first], ends), 4),
        "roc_area_sound_alone": round(ranking([beat.smart for beat, _ in first], ends), 4),
    }


def judged(beats: list[Beat]) -> dict[str, dict[str, float]]:
    """Return a row for each source and one for all that is addressed to an assistant."""
    weights = TurnEndWeights.read()
    rows = {"assistant": row([beat for beat in beats if beat.source != "human"], weights)}
    for source in sorted({beat.source for beat in beats}):
        rows[source] = row([beat for beat in beats if beat.source == source], weights)
    return rows


def main() -> None:
    """Record or judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--speech", type=Path, help="folder that holds librispeech/dev and librispeech/speakers"
    )
    parser.add_argument(
        "--voices", type=int, default=2, help="voices of hibari in which each sentence is said"
    )
    parser.add_argument("--record", choices=("tuning", "held_out"), help="only write the beats of a part")
    parser.add_argument("--keep", type=Path, help="file of beats: read when it exists, else written")
    arguments = parser.parse_args()
    part: Part = arguments.record or "held_out"
    with TemporaryDirectory() as folder:
        path = arguments.keep or Path(folder) / "beats.jsonl"
        if not path.exists():
            write_beats(clips(part, arguments.voices, arguments.speech), path)
        if arguments.record:
            return
        rows = judged(read_beats(path))
    header = list(next(iter(rows.values())))
    print(f"{'':10}" + "".join(f"{name:>22}" for name in header))
    for source, figures in rows.items():
        print(f"{source:10}" + "".join(f"{figures[name]:>22.4g}" for name in header))
    print(json.dumps({"benchmark": "turn_end", **rows}))


if __name__ == "__main__":
    main()
