"""Attention over paged keys on the CPU: PyTorch's fused kernel on one split of keys at a time, merged left to right.

The fused kernel is called with every split as a batch of its own. Its bits depend on two things that are held fixed
here, as measured with PyTorch 2.13 and MKL on x86-64, also where MKL and oneDNN were told to use older instructions:

- Rows are padded to a multiple of `ROW_QUANTUM`. Below it the matrix products take other routes.
- A call has two tasks or more where there are several threads. MKL divides the product of a lone task among threads,
  which changes its bits; tasks that run beside each other are computed by one thread each.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu.key_splits import SessionKeys
from microturn.kernels.cpu.rounding import rounded
from microturn.kernels.cpu.short_conv import check_bounds
from microturn.kernels.cpu.sight import Sight, Zone, seen_by_rows, zones
from microturn.kernels.spec import CPU_SPLIT

SPLIT = CPU_SPLIT.keys

ROW_QUANTUM = 8
"""Four rows suffice everywhere but under `MKL_CBWR=COMPATIBLE`; with eight no difference was found anywhere."""

BLOCK_ROWS = 256
"""Query rows per call of the fused kernel: a chunk of 50 tokens with 4 query heads per group in one, and masks that
stay small. No bit depends on it."""

TASK_ROWS = 32
"""Rows that the fused kernel gives one thread, if it has fewer than 192; otherwise it takes more."""

_fused = torch._scaled_dot_product_flash_attention_for_cpu


class _Block(NamedTuple):
    """Query tokens that follow each other, as rows."""

    rows: Tensor
    """(1, G, M, D): token by token, within it the query heads of a group; zeros at the end."""
    bias: Tensor | None
    """(tokens, H, X)"""
    first: int
    """Position of the first token."""
    tokens: int
    repeats: int
    """Query heads per group."""


class _Partial(NamedTuple):
    """Attention to a few splits, each on its own."""

    out: Tensor
    """(n, G, M, D): the weighted mean of the values of each split."""
    weight: Tensor
    """(n, G, M) float32: the logarithm of the sum of its weights; minus infinity if nothing was seen."""


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
    sight = Sight(window, sinks, 0 if distance_bias is None else distance_bias.shape[2])
    found: list[Tensor] = []
    for session, ((begin, end), length) in enumerate(zip(pairwise(bounds), lengths.tolist(), strict=True)):
        if begin == end:
            continue
        cache = SessionKeys.of(keys, values, page_table[session].tolist(), length)
        _check_session(session, cache, sight, new=end - begin)
        for low, high in _blocks(begin, end, q.shape[1] // keys.shape[1]):
            block = _block(q[low:high], distance_bias, low, length - end + low, keys.shape[1])
            found.append(rounded(_as_tokens(_attend(block, cache, sight, scale), block), q.dtype))
    return _joined(found) if found else torch.empty_like(q)


def _check_session(session: int, cache: SessionKeys, sight: Sight, *, new: int) -> None:
    if cache.length < new:
        raise BadShapeError(
            "attention", f"lengths[{session}]", expected=f"at least its {new!r} new tokens", got=cache.length
        )
    missing = cache.first_missing_page(sight, cache.length - new)
    if missing is not None:
        raise BadShapeError(
            "attention",
            f"page_table[{session}, {missing}]",
            expected="a page of the pool, as tokens on it are seen",
            got=cache.page_at(missing),
        )


def _blocks(begin: int, end: int, repeats: int) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK_ROWS // repeats)
    for low in range(begin, end, step):
        yield low, min(low + step, end)


def _block(q: Tensor, distance_bias: Tensor | None, token: int, first: int, groups: int) -> _Block:
    """The rows of `q (tokens, H, D)`, whose first token is `token` of the call and stands at position `first`."""
    tokens, heads, head_dim = q.shape
    repeats = heads // groups
    taken = tokens * repeats
    by_group = q.view(tokens, groups, repeats, head_dim).transpose(0, 1)
    # A copy in any case: MKL may choose its way by where in memory the rows lie, and new memory is aligned.
    rows = by_group.clone(memory_format=torch.contiguous_format).view(1, groups, taken, head_dim)
    if taken % ROW_QUANTUM:
        rows = torch.constant_pad_nd(rows, (0, 0, 0, -taken % ROW_QUANTUM))
    bias = None if distance_bias is None else distance_bias[token : token + tokens]
    return _Block(rows, bias, first, tokens, repeats)


def _as_tokens(rows: Tensor, block: _Block) -> Tensor:
    """`rows (G, M, D)` -> `(tokens, H, D)`."""
    groups, _, head_dim = rows.shape
    by_token = rows[:, : block.tokens * block.repeats].view(groups, block.tokens, block.repeats, head_dim)
    return by_token.transpose(0, 1).reshape(block.tokens, groups * block.repeats, head_dim).contiguous()


def _attend(block: _Block, cache: SessionKeys, sight: Sight, scale: float) -> Tensor:
    """Attention of all rows of a block to everything that they see: `(G, M, D)`."""
    parts: list[_Partial] = []
    for zone in zones(sight, block.first, block.tokens):
        mask, unseen = _mask(block, sight, zone)
        begin = 0
        for keys, values in cache.runs(zone.start, zone.stop):
            end = begin + keys.shape[0]
            part = _attend_each(block.rows, keys, values, None if mask is None else mask[begin:end], scale)
            if unseen is not None:
                part.weight.masked_fill_(unseen[begin:end], -torch.inf)
            parts.append(part)
            begin = end
    return _merged(parts)


def _mask(block: _Block, sight: Sight, zone: Zone) -> tuple[Tensor | None, Tensor | None]:
    """What is added to the scores of a zone, `(n, 1 or G, M, SPLIT)`, and the rows that see nothing of a split."""
    if zone.kind == "plain":
        return None, None
    seen = seen_by_rows(sight, zone, block.first, block.tokens, block.repeats, block.rows.shape[2])
    if zone.kind == "masked" or block.bias is None:
        scores = seen.scores.unsqueeze(0)
    else:
        scores = _biased(seen.scores, seen.margin, block, zone)
    by_split = scores[..., seen.margin :].view(*scores.shape[:2], -1, SPLIT)
    return by_split.permute(2, 0, 1, 3), seen.unseen


def _biased(scores: Tensor, margin: int, block: _Block, zone: Zone) -> Tensor:
    """`scores (M, margin + keys)` with every token's bias at the keys that are so far from it: `(G, M, ...)`.

    A token's biases stand at keys that follow each other, one key further for every next token; so all of them are
    one view, whose rows are longer by one than the rows of the scores.
    """
    bias = block.bias
    assert bias is not None
    groups, (rows, width), reach = block.rows.shape[1], scores.shape, bias.shape[2]
    biased = scores.repeat(groups, 1, 1)
    at = block.first - reach + 1 - zone.start * SPLIT + margin
    view = biased.as_strided(
        (groups, block.tokens, block.repeats, reach), (rows * width, block.repeats * width + 1, width, 1), at
    )
    view += bias.flip(-1).view(block.tokens, groups, block.repeats, reach).transpose(0, 1)
    return biased


def _attend_each(rows: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> _Partial:
    """Attention of `rows (1, G, M, D)` to each split of `keys (n, G, SPLIT, D)` on its own."""
    count = keys.shape[0]
    tasks = count * keys.shape[1] * -(-rows.shape[2] // TASK_ROWS)
    if tasks == 1 and torch.get_num_threads() > 1:
        # A twin, so that the task is not alone.
        keys, values = keys.expand(2, -1, -1, -1), values.expand(2, -1, -1, -1)
        mask = None if mask is None else mask.expand(2, -1, -1, -1)
        out, weight = _fused(rows.expand(2, -1, -1, -1), keys, values, attn_mask=mask, scale=scale)
        return _Partial(out[:1], weight[:1])
    same_rows = rows if count == 1 else rows.expand(count, -1, -1, -1)
    return _Partial(*_fused(same_rows, keys, values, attn_mask=mask, scale=scale))


def _merged(parts: list[_Partial]) -> Tensor:
    """The mean of all splits by their weights, added from left to right: `(G, M, D)`.

    Products, sums and quotients are separate operations, each rounded once. A split that a row does not see has the
    weight zero and adds positive zero; hence the sum begins with zero, which makes a negative zero positive always.
    """
    if len(parts) == 1 and parts[0].out.shape[0] == 1:
        return parts[0].out[0] + 0.0
    logs = _joined([part.weight for part in parts])
    weights = logs.sub_(logs.amax(0)).exp_().unsqueeze(-1)
    first, *others = (_joined([part.out for part in parts]) * weights).unbind(0)
    total = first + 0.0
    for term in others:
        total.add_(term)
    # A cumulative sum is from left to right by its definition.
    return total.div_(weights.cumsum(0)[-1])


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
