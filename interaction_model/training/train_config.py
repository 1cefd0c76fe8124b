"""What a training run is told: sizes of batches, rates, weights of losses and how often it saves. Numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from microturn.interaction_model.training._errors import BadTrainConfigError

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class RowsConfig:
    """How many sequences one step sees, and how long they are."""

    rows: int = 4
    """B: rows of a micro-batch, which goes through the network at once."""
    micro_turns: int = 150
    """Length of a row in silent micro-turns of 5 positions: 150 are 30 s. Outputs and patches take room as well."""
    accumulate: int = 2
    """Micro-batches whose gradients are added up before the weights move."""

    @property
    def tokens(self) -> int:
        """T: positions of a row."""
        return 5 * self.micro_turns


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights move. AdamW; the defaults are common for small transformers and not tuned."""

    learning_rate: float = 2e-3
    """Of embeddings and vectors; matrices of a wider network than the base model learn slower by the ratio (muP)."""
    warm_up_steps: int = 200
    weight_decay: float = 0.05
    """Of matrices only."""
    betas: tuple[float, float] = (0.9, 0.98)
    longest_gradient: float = 1.0
    """Gradients are cut to this norm."""
    balance_rate: float = 1e-3
    """How far the correction of an expert moves in each step. Source: Wang et al., 2024."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """How much one position counts, by what it has to predict, and how much the mouth counts beside them.

    Our choice. Nine of ten questions are answered with silence, and most of those are easy.
    """

    silence: float = 0.2
    """END as the whole answer of a micro-turn."""
    end: float = 0.5
    """END after other output."""
    heard: float = 1.0
    said: float = 1.0
    marks: float = 1.0
    """DELEGATE, END_DELEGATE, CANCEL, BACKCHANNEL and HUSH."""
    mouth: float = 0.2
    """The flow loss, against the mean over positions."""
    phonemes: float = 0.3
    """The mean over the user's phonemes, likewise."""
    sights: float = 0.3
    """The mean over pairs of camera frames, likewise."""


@dataclass(frozen=True, kw_only=True)
class SavingConfig:
    """How often a run saves and looks at held-out scenes."""

    checkpoint_minutes: float = 5.0
    evaluate_minutes: float = 10.0
    log_steps: int = 10
    """Steps that one line of the log sums up."""
    held_out_batches: int = 4
    """Micro-batches of held-out scenes on which the loss is taken; those of each task are a like share."""
    free_run_scenes: int = 2
    """Held-out scenes of each task that the network runs freely; 0 leaves that out."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    preset: str = "nano"
    """Sizes of the network; a name of `microturn.interaction_model.native.presets`."""
    seed: int = 0
    """Of the weights, the order of the data and the noise of the mouth."""
    precision: Precision = "float32"
    """In what matrices are multiplied; weights and their moments are float32 always."""
    threads: int = 2
    """CPU threads of PyTorch."""
    device: str = "cpu"
    is_compiled: bool = False
    """Whether the backbone is compiled, with rows of one length in mind; needs a C++ compiler. On one core a step of the
    nano took 0.67 s instead of 0.84 s, and the first one two minutes."""
    task_weights: Mapping[str, float] = field(default_factory=dict)
    """How often each scene of a task comes in an epoch; 1 for tasks that are not named."""
    rows: RowsConfig = RowsConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    weights: LossWeights = LossWeights()
    saving: SavingConfig = SavingConfig()

    def __post_init__(self) -> None:
        _check("rows", self.rows, above_zero=("rows", "micro_turns", "accumulate"))
        _check("optimizer", self.optimizer, above_zero=("learning_rate", "warm_up_steps", "longest_gradient"))
        _check("saving", self.saving, above_zero=("checkpoint_minutes", "evaluate_minutes", "log_steps"))
        _check("weights", self.weights, above_zero=("silence", "end", "heard", "said", "marks"))
        if self.threads < 1:
            raise BadTrainConfigError("threads", expected="1 or more", got=self.threads)
        for task, weight in self.task_weights.items():
            if weight < 0:
                raise BadTrainConfigError(f"task_weights[{task!r}]", expected="0 or more", got=weight)


def _check(name: str, part: object, *, above_zero: tuple[str, ...]) -> None:
    for each in fields(part):  # type: ignore[arg-type]  # all parts are dataclasses
        value = getattr(part, each.name)
        if each.name in above_zero and not value > 0:
            raise BadTrainConfigError(f"{name}.{each.name}", expected="above 0", got=value)
