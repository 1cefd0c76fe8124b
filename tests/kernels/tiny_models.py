"""Real architectures of `transformers` with a few random numbers for weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

transformers: Any = pytest.importorskip("transformers")

VOCABULARY = 99
_WIDTHS = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 100}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def _llama() -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_WIDTHS, **_HEADS, num_hidden_layers=2))


def _qwen3() -> Any:
    return transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**_WIDTHS, **_HEADS, num_hidden_layers=2, head_dim=16)
    )


def _gpt2() -> Any:
    sizes = {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=2))


def _inkling() -> Any:
    config = transformers.InklingTextConfig(
        **_WIDTHS,
        **_HEADS,
        num_hidden_layers=3,
        swa_num_attention_heads=4,
        swa_num_key_value_heads=2,
        head_dim=16,
        swa_head_dim=16,
        d_rel=8,
        rel_extent=64,
        sliding_window_size=24,
        n_routed_experts=6,
        n_shared_experts=2,
        num_experts_per_tok=3,
        moe_intermediate_size=40,
        layer_types=["hybrid_sliding", "hybrid_sliding", "hybrid"],
        mlp_layer_types=["dense", "sparse", "sparse"],
        logits_mup_width_multiplier=1.0,
        initializer_range=0.2,
    )
    return transformers.InklingForCausalLM(config)


TINY: dict[str, Callable[[], Any]] = {
    "llama": _llama,
    "qwen3": _qwen3,
    "gpt2": _gpt2,
    "inkling": _inkling,
}


def tiny_model(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """One of `TINY` with weights that depend on nothing but the seed, in evaluation mode."""
    torch.manual_seed(11)
    model: nn.Module = TINY[name]().eval().to(dtype)
    return model
