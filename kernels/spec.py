"""The numeric contract: what fixes the bits of a result. Everything that is not written here is tuning.

An operator is batch-invariant if the bits of one row depend on that row and on the weights alone: not on how many
other rows are computed with it, on its place among them, on how its sequence was cut into chunks, or on the number of
threads. It follows if the order of every floating-point reduction is a constant of the weight or of absolute
positions. The source of the idea is "Defeating Nondeterminism in LLM Inference" (Thinking Machines, 2025); the
choices below are ours.

- **Linear.** Accumulated in float32 from zero, the K dimension ascending in one chain; the bias is added after it; one
  rounding to the output's dtype. A split of K is a constant of the weight's shape, and partial sums are added from
  left to right.
- **Attention.** Keys are cut at absolute multiples of the split size, which is a constant of the device and of the
  layer's window and dtype; a split that is masked as a whole contributes exactly nothing; splits are merged from left to right.
- **Mixture of experts.** Float32; the chosen experts are combined in slot order; equal scores are ordered by the lowest
  index; no atomics.
- **Norms, softmax, mean.** Float32, one row at a time, in a fixed tree.
- **Collectives.** Partial sums per logical shard, added in the order of shards whatever the number of processes.
- **Sampling.** Noise is a hash of (seed, position, column).

The bits of two devices differ, and are named by `numerics_fingerprint()`.
"""

from __future__ import annotations

from dataclasses import dataclass

SPEC_VERSION = 2
"""Goes into the fingerprint; raised whenever a change here or in a kernel changes bits."""


@dataclass(frozen=True)
class SplitSpec:
    """Where attention cuts the keys."""

    keys: int
    """Keys per split; boundaries lie at absolute multiples of it."""

    def __post_init__(self) -> None:
        if self.keys < 16 or self.keys & (self.keys - 1):
            raise ValueError(f"keys must be a power of two from 16, got {self.keys!r}")

    def count(self, length: int) -> int:
        """How many splits `length` keys from position 0 touch."""
        return -(-length // self.keys)


CPU_SPLIT = SplitSpec(512)
"""Our choice: large enough that PyTorch's overhead per split is small beside its work."""

CPU_NEAR_SPLIT = SplitSpec(128)
"""Of layers in float32 whose window is small: a token of a window of 128 has 256 keys to go through, and not 512 or 1,024."""

NEAR_WINDOW = 256
"""The largest window of which `CPU_NEAR_SPLIT` is the split; our choice."""

GPU_SPLIT = SplitSpec(256)
"""Our choice: 16 splits of a context of 4,096 keep as many processors of an H100 busy."""

LOGICAL_SHARDS = 8
"""Row-parallel linears are cut into this many partial sums over K, whatever the number of processes."""


def cpu_split(window: int, *, is_wide: bool) -> SplitSpec:
    """Where the CPU cuts the keys of a layer.

    Args:
        window: of the layer, 0 for none.
        is_wide: whether it computes in float32. A narrower dtype rounds the result of each split, so that more of
            them would cost digits.
    """
    return CPU_NEAR_SPLIT if is_wide and 0 < window <= NEAR_WINDOW else CPU_SPLIT
