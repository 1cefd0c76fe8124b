"""Attention over paged keys on the CPU: PyTorch's fused kernel on one split of keys at a time, merged left to right.

What a call looks at is planned once for all layers of a kind, as they have the same pages and the same sight.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu.fused import Form, Partial, attend_each, form_for
from microturn.kernels.cpu.key_splits import Run, SessionPages
from microturn.kernels.cpu.rounding import rounded
from microturn.kernels.cpu.short_conv import check_bounds
from microturn.kernels.cpu.sight import Seen, Sight, Zone, seen_by_rows, zones

BLOCK_ROWS = 256
"""Query rows per call of the fused kernel: a chunk of 50 tokens with 4 query heads per group in one, and masks that
stay small. No bit depends on it."""


class _Block(NamedTuple):
    """Query tokens that follow each other."""

    first: int
    """Position of the first token."""
    tokens: int
    repeats: int
    """Query heads per group."""
    padded: int
    """Rows with the zeros at the end: token by token, within it the query heads of a group."""


class _Part(NamedTuple):
    """A zone of what a block sees."""

    zone: Zone
    seen: Seen | None
    """None if every row sees every key."""
    runs: tuple[Run, ...]


def attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    page_table: Tensor,
    starts: Tensor,
    lengths: Tensor,
    scale: float,
    window: int,
    sinks: int,
    distance_bias: Tensor | None,
) -> Tensor:
    """See `microturn.kernels.ops.attention.attention`."""
    bounds = tuple(starts.tolist())
    check_bounds("attention", bounds, q.shape[0])
    sight = Sight.of(window, sinks, 0 if distance_bias is None else distance_bias.shape[2], q.dtype)
    form = form_for(q.dtype, q.shape[2])
    repeats = q.shape[1] // keys.shape[1]
    found: list[Tensor] = []
    ends = zip(pairwise(bounds), page_table.tolist(), lengths.tolist(), strict=True)
    for session, ((begin, end), table, length) in enumerate(ends):
        if begin == end:
            continue
        pages = SessionPages.of(keys.shape, table, length)
        _check_session(session, pages, sight, end - begin)
        for low, high in _blocks(begin, end, repeats):
            taken = (high - low) * repeats
            block = _Block(length - end + low, high - low, repeats, taken + -taken % form.quantum)
            bias = None if distance_bias is None else distance_bias[low:high]
            out = _attend(
                q[low:high], keys, values, bias, block, _plan(pages, sight, block, form), scale, sight
            )
            found.append(rounded(out, q.dtype))
    return _joined(found) if found else torch.empty_like(q)


@lru_cache(maxsize=64)
def _check_session(session: int, pages: SessionPages, sight: Sight, new: int) -> None:
    if pages.length < new:
        raise BadShapeError(
            "attention", f"lengths[{session}]", expected=f"at least its {new!r} new tokens", got=pages.length
        )
    missing = pages.first_missing_page(sight, pages.length - new)
    if missing is not None:
        raise BadShapeError(
            "attention",
            f"page_table[{session}, {missing}]",
            expected="a page of the pool, as tokens on it are seen",
            got=pages.page_at(missing),
        )


def _blocks(begin: int, end: int, repeats: int) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK_ROWS // repeats)
    for low in range(begin, end, step):
        yield low, min(low + step, end)


@lru_cache(maxsize=64)
def _plan(pages: SessionPages, sight: Sight, block: _Block, form: Form) -> tuple[_Part, ...]:
    """What a block looks at, from left to right."""
    end = block.first + block.tokens
    begun = form.least_keys((end - 1) % sight.split + 1, sight.split)
    parts: list[_Part] = []
    for zone in zones(sight, block.first, block.tokens):
        seen = None
        if zone.kind != "plain":
            seen = seen_by_rows(sight, zone, block.first, block.tokens, block.repeats, block.padded)
        parts.append(_Part(zone, seen, tuple(pages.runs(zone, sight.split, begun))))
    return tuple(parts)


def _rows(q: Tensor, groups: int, block: _Block) -> Tensor:
    """`q (tokens, H, D)` as rows `(1, G, M, D)`."""
    tokens, _, head_dim = q.shape
    taken = tokens * block.repeats
    if tokens > 1:
        q = q.view(tokens, groups, block.repeats, head_dim).transpose(0, 1)
    rows = q.reshape(1, groups, taken, head_dim)
    # A copy in any case: MKL may choose its way by where in memory the rows lie, and new memory is aligned.
    return torch.constant_pad_nd(rows, (0, 0, 0, block.padded - taken))


def _as_tokens(rows: Tensor, block: _Block) -> Tensor:
    """`rows (G, M, D)` -> `(tokens, H, D)`."""
    groups, _, head_dim = rows.shape
    taken = rows.narrow(1, 0, block.tokens * block.repeats)
    if block.tokens > 1:
        taken = taken.view(groups, block.tokens, block.repeats, head_dim).transpose(0, 1)
    return taken.reshape(block.tokens, groups * block.repeats, head_dim).contiguous()


def _attend(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    bias: Tensor | None,
    block: _Block,
    plan: tuple[_Part, ...],
    scale: float,
    sight: Sight,
) -> Tensor:
    """Attention of all tokens of a block to everything that they see: `(tokens, H, D)`."""
    rows = _rows(q, keys.shape[1], block)
    found: list[Partial] = []
    for part in plan:
        seen = part.seen
        scores = None if seen is None else _scores(part.zone, seen, bias, block, sight, keys.shape[1])
        begin = 0
        for run in part.runs:
            mask = None
            if seen is not None and scores is not None:
                mask = _mask(scores, seen.margin + begin * sight.split, run, sight)
            partial = attend_each(rows, run.of(keys), run.of(values), mask, scale)
            if seen is not None and seen.unseen is not None:
                partial.weight.masked_fill_(seen.unseen[begin : begin + run.splits], -torch.inf)
            found.append(partial)
            begin += run.splits
    return _as_tokens(_merged(found), block)


def _scores(zone: Zone, seen: Seen, bias: Tensor | None, block: _Block, sight: Sight, groups: int) -> Tensor:
    """What is added to the scores of a zone, `(1 or G, M, margin + keys)`."""
    if zone.kind == "masked" or bias is None:
        return seen.scores.unsqueeze(0)
    at = block.first - bias.shape[2] + 1 - zone.start * sight.split + seen.margin
    return _biased(seen.scores, bias, at, block, groups)


def _mask(scores: Tensor, column: int, run: Run, sight: Sight) -> Tensor:
    """What is added to the scores of a run that begins at a column: `(n, 1 or G, M, keys)`."""
    groups, rows, width = scores.shape
    size = (run.splits, groups, rows, run.keys)
    return scores.as_strided(size, (sight.split, rows * width, width, 1), column)


def _biased(scores: Tensor, bias: Tensor, at: int, block: _Block, groups: int) -> Tensor:
    """`scores (M, margin + keys)` with every token's bias at the keys that are so far from it: `(G, M, ...)`.

    A token's biases stand at keys that follow each other, one key further for every next token; so all of them are
    one view, whose rows are longer by one than the rows of the scores. The first begins at column `at`.
    """
    (rows, width), reach = scores.shape, bias.shape[2]
    biased = scores.repeat(groups, 1, 1)
    view = biased.as_strided(
        (groups, block.tokens, block.repeats, reach), (rows * width, block.repeats * width + 1, width, 1), at
    )
    view.add_(bias.flip(-1).view(block.tokens, groups, block.repeats, reach).transpose(0, 1))
    return biased


def _merged(parts: list[Partial]) -> Tensor:
    """The mean of all splits by their weights, added from left to right: `(G, M, D)`.

    Products, sums and quotients are separate operations, each rounded once. A split that a row does not see has the
    weight zero and adds positive zero; hence the sum begins with zero, which makes a negative zero positive always.
    """
    if len(parts) == 1 and parts[0].out.shape[0] == 1:
        return parts[0].out[0] + 0.0
    logs = _joined([part.weight for part in parts])
    weights = logs.sub_(logs.amax(0)).exp_().unsqueeze(-1)
    total, *others = (_joined([part.out for part in parts]) * weights).unbind(0)
    total.add_(0.0)
    for term in others:
        total.add_(term)
    # A cumulative sum is from left to right by its definition.
    return total.div_(weights.cumsum(0)[-1])


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
