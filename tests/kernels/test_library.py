"""Which way a call takes: past PyTorch's dispatcher where nothing listens to it, through it where something does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from microturn.kernels.evidence import same_bits
from microturn.kernels.ops.norm import rms_norm

pytestmark = pytest.mark.unit


class _Listening(TorchDispatchMode):
    heard: tuple[str, ...] = ()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.heard += (str(func),)
        return func(*args, **(kwargs or {}))


def test_both_ways_have_the_same_bits() -> None:
    x, weight = torch.randn(5, 64), torch.randn(64)
    usual = rms_norm(x, weight, 1e-6)
    with torch.inference_mode():
        assert same_bits(rms_norm(x, weight, 1e-6), usual)


def _listening() -> _Listening:
    mode: _Listening = _Listening()  # type: ignore[no-untyped-call]  # PyTorch's, which has no types
    return mode


def test_a_mode_that_listens_hears_of_the_operator() -> None:
    x, weight = torch.randn(5, 64), torch.randn(64)
    with torch.inference_mode(), _listening() as mode:
        rms_norm(x, weight, 1e-6)
    assert mode.heard == ("microturn.rms_norm.default",)


def test_a_profiler_sees_the_operator() -> None:
    x, weight = torch.randn(5, 64), torch.randn(64)
    with torch.profiler.profile() as profiler, torch.inference_mode():
        rms_norm(x, weight, 1e-6)
    assert "microturn::rms_norm" in {event.key for event in profiler.key_averages()}
