"""Attention over paged keys and values, with a window, sinks and a bias by distance."""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import attention as cpu
from microturn.kernels.cpu.fused import form_for
from microturn.kernels.library import define
from microturn.kernels.spec import CPU_SPLIT

_attention = define(
    "attention(Tensor q, Tensor keys, Tensor values, Tensor page_table, Tensor starts, Tensor lengths, "
    "float scale, int window, int sinks, Tensor? distance_bias) -> Tensor",
    cpu=cpu.attention,
    gpu="attention:attention",
    fake=lambda q, *args: q.new_empty(q.shape),
)


def attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    page_table: Tensor,
    starts: Tensor,
    lengths: Tensor,
    *,
    scale: float,
    window: int = 0,
    sinks: int = 0,
    distance_bias: Tensor | None = None,
) -> Tensor:
    """Causal attention of the newest tokens of several sessions to all that each session holds.

    The tokens `starts[s]:starts[s + 1]` are the newest of session s; their keys and values are in the cache already.
    The query at position p sees the key at position k if `k <= p` and, with a window, `p - k < window` or
    `k < sinks`. Scores are `scale * q.k + distance_bias[token, head, p - k]`, the bias being 0 from distance X on.
    Query head h reads the key/value head `h // (H // G)`.

    Scores, softmax and its sums are in float32. Keys are cut at absolute multiples of a split that the device, the
    window and the dtype decide (`microturn.kernels.spec`) and splits are merged from left to right, so a token's bits do not depend on how its
    session was cut into calls, on other sessions, or on which pages it lies. A window over relative distances is
    that of Beltagy et al. (Longformer, 2020), sinks are those of Xiao et al. (StreamingLLM, 2023), the learned bias
    is that of the Inkling models.

    Args:
        q: `(T, H, D)`, float32, bfloat16 or float16.
        keys: `(P, G, page, D)`, the dtype of `q`, contiguous; H is a multiple of G. `page` is a multiple of 16 that
            divides 512 or is a multiple of it. From 512 on the CPU reads the keys where they lie, but for splits that are
            not full and short ones beside them; smaller pages are copied in every call.
        values: as `keys`.
        page_table: `(S, max_pages)` int32: the page of every `page` tokens; -1 for an evicted one, of which no new
            token may see any key.
        starts: `(S + 1,)` int32, rising from 0 to T.
        lengths: `(S,)` int32: tokens in the cache of each session, the new ones included.
        scale: what `q.k` is multiplied with.
        window: in tokens; 0 for none.
        sinks: keys at the beginning that are seen from beyond the window too.
        distance_bias: `(T, H, X)`, any floating dtype, or None.

    Returns:
        `(T, H, D)`, the dtype of `q`.

    Raises:
        BadShapeError: shapes or dtypes do not fit; on the CPU also if `starts`, `lengths` or `page_table` make no
            sense together.
    """
    _check_queries(q, keys, distance_bias)
    _check_pool(keys, values)
    _check_tables(page_table, starts, lengths)
    if window < 0 or sinks < 0:
        raise BadShapeError("attention", "window and sinks", expected="0 or more", got=(window, sinks))
    result: Tensor = _attention(
        q, keys, values, page_table, starts, lengths, scale, window, sinks, distance_bias
    )
    return result


def prepare_attention(dtype: torch.dtype, head_dim: int) -> None:
    """Find for the CPU in which sizes to call PyTorch's kernel, so that no later call has to; some 50 ms.

    Args:
        dtype: of queries, keys and values.
        head_dim: D.
    """
    form_for(dtype, head_dim)


def _check_queries(q: Tensor, keys: Tensor, distance_bias: Tensor | None) -> None:
    if q.dim() != 3 or keys.dim() != 4 or q.shape[2] != keys.shape[3] or q.shape[1] % keys.shape[1]:
        expected = "(T, H, D) for keys of (P, G, page, D), H a multiple of G"
        got = (tuple(q.shape), tuple(keys.shape))
        raise BadShapeError("attention", "q", expected=expected, got=got)
    if q.dtype != keys.dtype:
        raise BadShapeError("attention", "q", expected=f"of {keys.dtype}, as the keys", got=q.dtype)
    if distance_bias is not None and (distance_bias.dim() != 3 or distance_bias.shape[:2] != q.shape[:2]):
        expected = f"({q.shape[0]}, {q.shape[1]}, X)"
        raise BadShapeError("attention", "distance_bias", expected=expected, got=tuple(distance_bias.shape))


def _check_pool(keys: Tensor, values: Tensor) -> None:
    page = keys.shape[2]
    if page % 16 or (CPU_SPLIT.keys % page and page % CPU_SPLIT.keys):
        expected = f"a multiple of 16 tokens that divides {CPU_SPLIT.keys} or is a multiple of it"
        raise BadShapeError("attention", "the page of keys", expected=expected, got=page)
    if values.shape != keys.shape or values.dtype != keys.dtype:
        expected = f"{tuple(keys.shape)} of {keys.dtype}, as the keys"
        raise BadShapeError("attention", "values", expected=expected, got=(tuple(values.shape), values.dtype))
    if not (keys.is_contiguous() and values.is_contiguous()):
        got = (keys.stride(), values.stride())
        raise BadShapeError("attention", "keys and values", expected="contiguous", got=got)


def _check_tables(page_table: Tensor, starts: Tensor, lengths: Tensor) -> None:
    sessions = lengths.shape[0]
    if page_table.dim() != 2 or page_table.shape[0] != sessions or starts.shape != (sessions + 1,):
        expected = "(S, max_pages), (S + 1,) and (S,)"
        got = (tuple(page_table.shape), tuple(starts.shape), tuple(lengths.shape))
        raise BadShapeError("attention", "page_table, starts and lengths", expected=expected, got=got)
    if not page_table.dtype == starts.dtype == lengths.dtype == torch.int32:
        got_dtypes = (page_table.dtype, starts.dtype, lengths.dtype)
        raise BadShapeError("attention", "page_table, starts and lengths", expected="int32", got=got_dtypes)
