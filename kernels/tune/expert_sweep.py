"""Times tiles of a mixture of experts, whose two products walk through the same blocks and so share a height."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from microturn.kernels.gpu.moe import moe
from microturn.kernels.gpu.tuning import MmaClass, Tile, forced_class, forced_tile
from microturn.kernels.tune.bit_class import most_common, row_hash
from microturn.kernels.tune.candidates import expert_candidates
from microturn.kernels.tune.deadline import Deadline
from microturn.kernels.tune.journal import Journal
from microturn.kernels.tune.plan import Plan
from microturn.kernels.tune.precompile import Job
from microturn.kernels.tune.shapes import LayerShape
from microturn.kernels.tune.timing import Call

Pair = tuple[Tile, Tile]
"""Of gate and up, and of down."""
Entries = list[dict[str, object]]

MOST_PER_HEIGHT = 8
LARGEST_TOKENS = 8192
"""At which the last bucket is timed on a GPU."""


def swept_experts(
    plan: Plan, shape: LayerShape, mma: MmaClass, deadline: Deadline, journal: Journal
) -> tuple[Entries, Entries]:
    """Entries of the tables `moe_gate_up` and `moe_down`, as far as the time reaches."""
    weights = _weights(plan, shape)
    gate_up: Entries = []
    down: Entries = []
    wanted: int | None = None
    for limit in plan.expert_tokens:
        if deadline.is_over:
            journal.skipped(f"experts, {limit} tokens")
            break
        tokens = limit or _largest(plan)
        calls = _Calls(plan, shape, weights, tokens, mma)
        pairs = _pairs(tokens, mma, plan.most_candidates)
        wanted, good = _of_one_class(calls, pairs, wanted, journal)
        if not good:
            continue
        first, second = _fastest(plan, calls, good, tokens, journal)
        gate_up.append({"max_rows": limit, **asdict(first)})
        down.append({"max_rows": limit, **asdict(second)})
    return gate_up, down


def expert_jobs(plan: Plan, shape: LayerShape, mma: MmaClass) -> list[Job]:
    """What must be compiled: each pair of tiles for the numbers of tokens that it is timed at, with small experts."""
    tokens_of: dict[Pair, set[int]] = {}
    for limit in plan.expert_tokens:
        tokens = limit or _largest(plan)
        for pair in _pairs(tokens, mma, plan.most_candidates):
            tokens_of.setdefault(pair, set()).update({1, tokens})
    width, inner = min(shape.width, 256), min(shape.expert_width, 256)
    return [
        Job("moe", pair, mma, inner, width, tuple(sorted(tokens)), shape.experts, shape.top_k)
        for pair, tokens in tokens_of.items()
    ]


def _largest(plan: Plan) -> int:
    return LARGEST_TOKENS if plan.device.type == "cuda" else 9


class _Calls:
    """Calls on two sets of tokens, which choose different experts; the first token is the same in all."""

    def __init__(
        self, plan: Plan, shape: LayerShape, weights: tuple[Tensor, Tensor], tokens: int, mma: MmaClass
    ) -> None:
        generator = torch.Generator(device=plan.device).manual_seed(3)
        probe = torch.empty(1, shape.width, device=plan.device).normal_(generator=generator)
        self._inputs = []
        for _ in range(2):
            x = torch.empty(tokens, shape.width, device=plan.device).normal_(generator=generator)
            x[:1] = probe
            x = x.round_() if plan.device.type == "cpu" else x
            drawn = torch.rand(tokens, shape.experts, device=plan.device, generator=generator)
            drawn[0] = torch.linspace(0, 1, shape.experts, device=plan.device)
            ids = drawn.topk(shape.top_k, dim=1).indices.to(torch.int32)
            shares = torch.full(ids.shape, 1.0 / 8.0, device=plan.device)
            self._inputs.append((x.to(plan.dtype), ids, shares))
        self._weights, self._mma = weights, mma

    def of(self, pair: Pair) -> list[Call]:
        """One call per set of tokens."""
        return [self._call(pair, *inputs) for inputs in self._inputs]

    def first_token(self, pair: Pair) -> set[int]:
        """The hashes of the first token's result in both sets, and alone."""
        x, ids, shares = self._inputs[0]
        calls = [self._call(pair, *inputs) for inputs in self._inputs]
        alone = self._call(pair, x[:1], ids[:1], shares[:1])
        return {int(row_hash(call(), 0)) for call in (alone, *calls)}

    def _call(self, pair: Pair, x: Tensor, ids: Tensor, shares: Tensor) -> _Moe:
        return _Moe(pair, self._mma, (x, *self._weights, ids, shares))


class _Moe:
    """One bound call of the operator."""

    def __init__(
        self, pair: Pair, mma: MmaClass, arguments: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
    ) -> None:
        self._pair, self._mma, self._arguments = pair, mma, arguments

    def __call__(self) -> Tensor:
        first, second = self._pair
        with (
            forced_class(self._mma),
            forced_tile("moe_gate_up", first),
            forced_tile("moe_down", second),
        ):
            return moe(*self._arguments)


def _pairs(tokens: int, mma: MmaClass, most: int) -> list[Pair]:
    """For each height, every tile of one product beside the likeliest of the other."""
    firsts = expert_candidates(tokens, mma, gates=2)
    seconds = expert_candidates(tokens, mma, gates=1)
    pairs: list[Pair] = []
    for height in sorted(firsts.keys() & seconds.keys()):
        some_first, some_second = firsts[height][:MOST_PER_HEIGHT], seconds[height][:MOST_PER_HEIGHT]
        pairs += [(first, some_second[0]) for first in some_first]
        pairs += [(some_first[0], second) for second in some_second[1:]]
    return pairs[:most]


def _of_one_class(
    calls: _Calls, pairs: Sequence[Pair], wanted: int | None, journal: Journal
) -> tuple[int | None, list[Pair]]:
    """The pairs that run and give the first token the same bits alone, in both sets, and as all others."""
    hashes: dict[Pair, int] = {}
    for pair in pairs:
        try:
            found = calls.first_token(pair)
        except Exception as error:  # noqa: BLE001  # tiles that do not run are left out, and the journal says why
            journal.add("dropped", {"tile": str(pair), "why": f"{type(error).__name__}: {error}"[:300]})
            continue
        if len(found) == 1:
            hashes[pair] = found.pop()
        else:
            journal.add("dropped", {"tile": str(pair), "why": "bits depend on the batch"})
    if wanted is None and hashes:
        wanted = most_common(hashes)
    for pair, bits in hashes.items():
        if bits != wanted:
            journal.add("dropped", {"tile": str(pair), "why": "other bits than most tiles"})
    return wanted, [pair for pair, bits in hashes.items() if bits == wanted]


def _fastest(plan: Plan, calls: _Calls, pairs: Sequence[Pair], tokens: int, journal: Journal) -> Pair:
    """The best tile of each product for the best height, though not every combination was timed.

    The products run one after the other, so what a tile saves beside one partner it saves beside another.
    """
    timings = plan.clock.time({str(pair): calls.of(pair) for pair in pairs})
    spent = {pair: timings[str(pair)].p50_us for pair in pairs}
    best = min(_combined(spent, pairs).items(), key=lambda item: item[1])
    record = {str(pair): round(us, 3) for pair, us in sorted(spent.items(), key=lambda item: item[1])[:6]}
    journal.add("timed", {"name": "experts", "rows": tokens, "expected_us": best[1], "p50_us": record})
    return best[0]


def _combined(spent: Mapping[Pair, float], pairs: Sequence[Pair]) -> dict[Pair, float]:
    """By height, the best tile of each product and the time that they should take together."""
    found: dict[Pair, float] = {}
    for height in sorted({first.rows for first, _ in pairs}):
        same = [pair for pair in pairs if pair[0].rows == height]
        base = same[0]
        first = min((pair for pair in same if pair[1] == base[1]), key=lambda pair: spent[pair])
        second = min((pair for pair in same if pair[0] == base[0]), key=lambda pair: spent[pair])
        found[first[0], second[1]] = spent[first] + spent[second] - spent[base]
    return found


def _weights(plan: Plan, shape: LayerShape) -> tuple[Tensor, Tensor]:
    """Random weights of the routed experts; small integers on the CPU, for the interpreter's exact sums."""
    sizes = (
        (shape.experts, 2 * shape.expert_width, shape.width),
        (shape.experts, shape.width, shape.expert_width),
    )
    generator = torch.Generator(device=plan.device).manual_seed(5)
    drawn = [torch.empty(size, device=plan.device, dtype=plan.dtype) for size in sizes]
    for weight in drawn:
        weight.normal_(0.0, 0.02 if plan.device.type == "cuda" else 1.0, generator=generator)
    gate_up, down = (weight.round_() if plan.device.type == "cpu" else weight for weight in drawn)
    return gate_up, down
