"""Fixed-split attention for models of the package `transformers`, under its name `microturn`.

Needs the package; `invariant_model` imports this module when it is given such a model.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from microturn.kernels.aten_attention import dense_attention
from microturn.protocols import UserError

NAME = "microturn"
# Imported so because the package's annotations change from version to version.
_transformers: Any = import_module("transformers")
_masking: Any = import_module("transformers.masking_utils")


def register() -> None:
    """Make the name known to `transformers`."""
    _transformers.AttentionInterface.register(NAME, attend)
    _transformers.AttentionMaskInterface.register(NAME, positioned_mask)


def positioned_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    *,
    kv_offset: int | Tensor = 0,
    attention_mask: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """The mask of (B, 1, Q, L), always made, with the position of key 0 in each sequence as `first_key`.

    A cache of a sliding window begins behind position 0, and a sequence that is padded on the left begins behind
    key 0; both would move the places where attention cuts the keys.
    """
    kwargs["allow_is_causal_skip"] = kwargs["allow_is_bidirectional_skip"] = False
    mask: Tensor = _masking.sdpa_mask(
        batch_size, q_length, kv_length, kv_offset=kv_offset, attention_mask=attention_mask, **kwargs
    )
    first_key = torch.full((batch_size,), int(kv_offset))
    if attention_mask is not None:
        first_key = first_key - (attention_mask.cumsum(-1) == 0).sum(-1).cpu()
    mask.first_key = first_key  # type: ignore[attr-defined]  # the mask is all that reaches `attend`
    return mask


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What `transformers` calls: (B, H, Q, D), (B, G, L, D) twice and a mask give (B, Q, H, Dv).

    Raises:
        UserError: the model asks for soft-capped scores or attention sinks, which this attention does not have.
    """
    for option in ("softcap", "s_aux"):
        if kwargs.get(option) is not None:
            raise UserError(
                f"batch-invariant attention of {type(module).__name__} was asked for {option!r}, which it does not "
                "have; use a model without it"
            )
    causal = attention_mask is None and getattr(module, "is_causal", False) and query.shape[2] == key.shape[2]
    out = dense_attention(
        query,
        key,
        value,
        mask=attention_mask,
        bias=position_bias,
        is_causal=bool(causal),
        dropout=dropout,
        scale=scaling,
        first_key=getattr(attention_mask, "first_key", None),
    )
    return out.transpose(1, 2).contiguous(), None
