"""The Inkling models of `transformers` with random weights, to compare with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from microturn.interaction_model.native.config import BackboneConfig
from microturn.interaction_model.native.inkling import config_fields

configuration = pytest.importorskip("transformers.models.inkling.configuration_inkling")
modeling = pytest.importorskip("transformers.models.inkling.modeling_inkling")


class WidestFloats(TorchFunctionMode):
    """Lets code that asks for float32 in the middle of its work have float64 instead."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.float:
            return args[0].double()
        if kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        args = tuple(torch.float64 if argument is torch.float32 else argument for argument in args)
        return func(*args, **kwargs)


def inkling_config(config: BackboneConfig) -> Any:
    """The same sizes in the words of `transformers`."""
    fields = config_fields(config)
    del fields["model_type"]
    return configuration.InklingTextConfig(
        attn_implementation="eager", experts_implementation="eager", **fields
    )


def draw(module: nn.Module, seed: int) -> None:
    """Give every weight and every buffer of numbers a random value that is large enough to matter."""
    generator = torch.Generator().manual_seed(seed)
    tensors = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in sorted(tensors, key=lambda named: named[0]):
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            fan_in = tensor.shape[-1] if tensor.dim() > 1 else 1
            centre = 1.0 if name.endswith(("norm.weight", "global_scale")) else 0.0
            with torch.no_grad():
                tensor.copy_(centre + drawn * (0.3 if tensor.dim() == 1 else fan_in**-0.5))


def inkling_language_model(config: BackboneConfig, dtype: torch.dtype, seed: int = 1) -> Any:
    """An `InklingForCausalLM` with random weights."""
    model = modeling.InklingForCausalLM(inkling_config(config)).to(dtype).eval()
    draw(model, seed)
    return model


def inkling_hidden(model: Any, embeddings: Tensor) -> Tensor:
    """Normed hidden states of `(B, T, C)` embeddings; in float64 throughout if the model is."""
    if embeddings.dtype == torch.float64:
        with WidestFloats():
            hidden: Tensor = model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        return hidden
    narrow: Tensor = model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    return narrow
