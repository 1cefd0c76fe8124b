"""Whether somebody who has fallen silent has finished, and how long to wait before taking it for granted.

Weighs the sound of what was said (melody, rhythm), the shape of its words and the recogniser's certainty in one
logistic model, and turns the probability into a silence to wait for: short after what sounds finished, long after
"set a timer for". Knows nothing of beats and of what a turn leads to.

The weights stand in `turn_end.json`, fitted by `tests/benchmarks/fit_turn_end.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic

from microturn.interaction_model._errors import WeightsMismatchError
from microturn.interaction_model.cascade.latest_worker import LatestWorker
from microturn.interaction_model.cascade.smart_turn import SmartTurn
from microturn.interaction_model.cascade.transcript_shape import observe
from microturn.protocols import Samples

OVERSHOOT_MS = 140.0
"""The voice activity detector holds on for up to this long after speech has stopped, so evidence that ends by no
more than this before the last speech it reports has heard the speech to its end."""
LEAST_LOGPROB = -0.5
"""Words less certain than this are no worse for it: a bad line lowers the certainty of everything said."""


@dataclass(frozen=True, slots=True)
class TurnEvidence:
    """What is known about a silence."""

    text: str
    """The turn's transcript."""
    mean_logprob: float
    """The recogniser's mean log-probability of it."""
    sound: float | None
    """What `SmartTurn.finished` made of the sound; None when it has not been asked."""
    age_ms: float
    """By how much the sound that both have heard reaches beyond the last speech; negative when it ends before it."""

    @property
    def is_whole(self) -> bool:
        """Whether both have heard the speech to its end. Evidence that has not says nothing about the silence."""
        return self.age_ms >= -OVERSHOOT_MS


@dataclass(frozen=True, slots=True)
class TurnVerdict:
    """What is made of the evidence."""

    finished: float
    """How likely the speaker has finished, 0 to 1."""
    wait_ms: int
    """Silence, as the segmenter counts it, after which to act as if they had."""


class TurnEndWeights(pydantic.BaseModel):
    """The fitted model."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    offset: float
    weights: dict[str, float]
    """Weight of each observation and of the numbers named in `describe`."""
    waits: tuple[tuple[float, int], ...]
    """Probability from which a wait in ms is enough, in falling order of probability; the last is for the rest."""

    def wait_ms(self, finished: float) -> int:
        """Return the silence to wait for at a probability."""
        return next(wait for least, wait in self.waits if finished >= least)

    @classmethod
    def read(cls, path: Path | None = None) -> TurnEndWeights:
        """Read a JSON file, by default the one beside this module.

        Raises:
            WeightsMismatchError: it is no such model, or one of other observations.
        """
        path = path or Path(__file__).with_name("turn_end.json")
        try:
            read = cls.model_validate_json(path.read_text("utf-8"))
        except (OSError, pydantic.ValidationError) as error:
            raise WeightsMismatchError(
                "the turn judge", expected=f"weights in {path}", got=str(type(error))
            ) from error
        known = set(describe(TurnEvidence("", 0.0, None, 0.0)))
        if known != set(read.weights):
            odd = sorted(known ^ set(read.weights))
            raise WeightsMismatchError(
                "the turn judge", expected="a weight for each observation", got=f"odd: {odd}"
            )
        return read


class TurnEndJudge:
    """Judges silences; pure and quick (about 20 microseconds)."""

    def __init__(self, weights: TurnEndWeights | None = None) -> None:
        self._weights = weights or TurnEndWeights.read()

    def judge(self, evidence: TurnEvidence, before: TurnVerdict | None = None) -> TurnVerdict:
        """Return how likely the speaker has finished, and the silence that is worth waiting for.

        Args:
            evidence: What is known now.
            before: The verdict of the beat before, in the same silence: the two are averaged, because a recogniser
                sometimes invents a last word and takes it back.
        """
        description = describe(evidence)
        log_odds = self._weights.offset
        log_odds += sum(weight * description[name] for name, weight in self._weights.weights.items())
        if before is not None:
            log_odds = (log_odds + _log_odds(before.finished)) / 2
        finished = float(1 / (1 + np.exp(-log_odds)))
        return TurnVerdict(finished, self._weights.wait_ms(finished))


def describe(evidence: TurnEvidence) -> dict[str, float]:
    """Return the numbers that the model weighs, by name."""
    numbers = observe(evidence.text)
    asked = evidence.sound is not None
    numbers["log-odds of the sound"] = _log_odds(evidence.sound if evidence.sound is not None else 0.5)
    numbers["the sound was not asked"] = float(not asked)
    numbers["log-probability of the words"] = max(evidence.mean_logprob, LEAST_LOGPROB)
    numbers["heard beyond the speech"] = min(max(evidence.age_ms, -OVERSHOOT_MS), 300.0) / 200
    return numbers


def _log_odds(chance: float) -> float:
    """Return the log-odds of a chance, bounded so that no single witness decides alone."""
    bounded = min(max(chance, 0.003), 0.997)
    return float(np.log(bounded / (1 - bounded)))


@dataclass(frozen=True, slots=True)
class TurnSound:
    """What the turn detector made of the sound of a turn."""

    turn: int
    end_sample: int
    """Position up to which it has heard."""
    finished: float


@dataclass(frozen=True, slots=True)
class TurnSoundJob:
    """A turn's sound as far as it has been heard."""

    turn: int
    end_sample: int
    """Position at which it ends."""
    audio: Samples
    """16 kHz, at least the turn's last 8 s."""


class TurnSoundService(LatestWorker[TurnSoundJob, TurnSound]):
    """Owns the thread in which the turn detector runs; the newest sound of each session, polled, never waited for."""

    def __init__(self, detector: SmartTurn) -> None:
        self._detector = detector
        super().__init__(self._listen, "turn-sound")

    def _listen(self, job: TurnSoundJob) -> TurnSound:
        return TurnSound(job.turn, job.end_sample, self._detector.finished(job.audio))
