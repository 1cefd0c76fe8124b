"""What fixed bits cost: steps of the native model beside the same steps from PyTorch's own operators.

Both have the same weights and the same past, which both have computed, and both must give the same numbers up to
rounding before anything is timed. The alternative serves one session and nothing else, so the ratio holds what pages,
windows and company cost besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from native_figures import Rows, Variant, taking_turns
from native_library import Attend, LibraryDecoder, attend_by_hand, attend_fused
from native_stage import TOKENS_A_MINUTE, Returning, random_embeddings
from torch import Tensor

from microturn.interaction_model.native.cache import SessionState
from microturn.interaction_model.native.decoder import Decoder
from microturn.interaction_model.native.network import Network, to_bfloat16
from microturn.interaction_model.native.state_window import STEP_TOKENS, StateWindow
from microturn.kernels.tune.timing import quantile

LENGTHS = {"one token": 1, "silent micro-turn, 5 tokens": 5, "prefill, 50 tokens": 50}
ALTERNATIVES: dict[str, Attend] = {"by hand": attend_by_hand, "fused": attend_fused}
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 0.1}
"""Of hidden states, as shares of their length; in bfloat16 both round after every operator."""


class DisagreementError(AssertionError):
    """The alternative computes something else, so that a comparison would mean nothing."""


@dataclass(frozen=True)
class Pair:
    """Both decoders after the same tokens."""

    ours: Decoder
    state: SessionState
    library: LibraryDecoder
    difference: float
    """The largest between hidden states of both on the way, as a share of their length."""

    @classmethod
    def of(cls, network: Network, context: int) -> Pair:
        """Let both compute the same past.

        Raises:
            DisagreementError: they differ by more than rounding explains.
        """
        window = StateWindow(sessions=1)
        ours = Decoder(network.model, network.lm_head.weight, window.cache(network.config.backbone))
        ours.prepare()
        library = LibraryDecoder(network.model, context + max(LENGTHS.values()))
        state, largest = ours.open(), 0.0
        for part in random_embeddings(context, ours.embed(torch.tensor([0]))).split(STEP_TOKENS):
            both = ours.advance([state], [part])[0], library.advance(part)
            largest = max(largest, _difference(*both))
        pair = cls(ours, state, library, largest)
        pair.check(part.dtype)
        return pair

    def check(self, dtype: torch.dtype) -> None:
        """Raise DisagreementError if the past differed too much."""
        if not self.difference <= TOLERANCES[dtype]:
            raise DisagreementError(
                f"hidden states differ by {self.difference}, expected at most {TOLERANCES[dtype]} in {dtype}"
            )

    def variants(self, tokens: Tensor) -> dict[str, Variant]:
        """The same step both ways, over and over; ours goes on by a token each time, see `Returning`."""
        back = partial(self.library.rewind, self.library.length, self.library.convolution_inputs())
        others = {
            name: Variant(partial(self._by_library, attend, tokens), back)
            for name, attend in ALTERNATIVES.items()
        }
        ours = partial(self.ours.advance, [self.state], [tokens])
        return {"ours": Variant(ours, Returning(self.ours, self.state)), **others}

    def _by_library(self, attend: Attend, tokens: Tensor) -> None:
        self.library.attend = attend
        self.library.advance(tokens)


def cost(network: Network, dtype: torch.dtype, *, minutes: int, budget_s: float) -> Rows:
    """Steps of several lengths with one thread and with two: 20th percentiles, and ratios to the quicker alternative.

    Args:
        network: in float32; it is rounded in place for bfloat16.
        dtype: to compute in.
        minutes: of silence behind the step.
        budget_s: for each length and number of threads.
    """
    pair = Pair.of(to_bfloat16(network) if dtype == torch.bfloat16 else network, minutes * TOKENS_A_MINUTE)
    rows: Rows = {}
    for threads in (1, 2):
        with_threads = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            for name, count in LENGTHS.items():
                case = f"{name}, {minutes} min, {str(dtype).removeprefix('torch.')}, {threads} thread{'s' * (threads > 1)}"
                rows[case] = _row(pair, count, budget_s)
        finally:
            torch.set_num_threads(with_threads)
    return rows


def _row(pair: Pair, count: int, budget_s: float) -> dict[str, float | int | str]:
    tokens = random_embeddings(count, pair.ours.embed(torch.tensor([0])))
    spans = taking_turns(pair.variants(tokens), rounds=200, budget_s=budget_s)
    wall = {name: quantile(own.wall_ms, 0.2) for name, own in spans.items()}
    cpu = {name: quantile(own.cpu_ms, 0.2) for name, own in spans.items()}
    return {
        **{f"{name}_ms": round(value, 2) for name, value in wall.items()},
        "ratio": round(wall["ours"] / min(wall[name] for name in ALTERNATIVES), 2),
        "cpu_ratio": round(cpu["ours"] / min(cpu[name] for name in ALTERNATIVES), 2),
        "difference": float(f"{pair.difference:.1e}"),
        "n": len(spans["ours"].wall_ms),
    }


def _difference(one: Tensor, other: Tensor) -> float:
    apart = torch.linalg.vector_norm(one.float() - other.float(), dim=-1)
    return float((apart / torch.linalg.vector_norm(other.float(), dim=-1)).max())
