"""How an operator is registered with PyTorch, and which implementation a call reaches.

`torch.library.Library` is used rather than `torch.library.custom_op`: on a small tensor its call costs 10 us
instead of 25 (measured on a shared x86-64 core; a native operator costs 10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch

from microturn.kernels._errors import NativeExtraMissingError

NAMESPACE = "microturn"
Backend = Literal["native", "interpreter"]

_library = torch.library.Library(NAMESPACE, "DEF")
_backend: ContextVar[Backend] = ContextVar("microturn_kernels_backend", default="native")


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Choose what computes tensors on the CPU inside this block.

    Args:
        backend: `native` for `microturn.kernels.cpu`; `interpreter` for the Triton kernels under Triton's
            interpreter, which needs the environment variable `TRITON_INTERPRET=1` before the first use.
    """
    token = _backend.set(backend)
    try:
        yield
    finally:
        _backend.reset(token)


def current_backend() -> Backend:
    """What computes tensors on the CPU here."""
    return _backend.get()


def define(schema: str, *, cpu: Callable[..., Any], gpu: str, fake: Callable[..., Any]) -> Callable[..., Any]:
    """Register one operator under `torch.ops.microturn`.

    Args:
        schema: its signature in PyTorch's schema language, as `linear(Tensor x, Tensor weight) -> Tensor`.
        cpu: the implementation for the CPU.
        gpu: the Triton implementation as `module:function` under `microturn.kernels.gpu`, imported on first use.
        fake: gives empty tensors of the right shapes, for tracing.

    Returns:
        The operator's overload, to be called by its typed wrapper.
    """
    name = schema.split("(", 1)[0]
    _library.define(schema)
    triton_kernel = _loaded_on_first_use(gpu)

    def on_cpu(*args: Any, **kwargs: Any) -> Any:
        chosen = triton_kernel if _backend.get() == "interpreter" else cpu
        return chosen(*args, **kwargs)

    _library.impl(name, on_cpu, "CPU")
    _library.impl(name, triton_kernel, "CUDA")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)
    overload: Callable[..., Any] = getattr(getattr(torch.ops, NAMESPACE), name).default
    return overload


def _loaded_on_first_use(path: str) -> Callable[..., Any]:
    """A function that imports `module:function` when it is first called."""
    module, function = path.split(":")
    found: list[Callable[..., Any]] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        if not found:
            if find_spec("triton") is None:
                raise NativeExtraMissingError("triton")
            found.append(getattr(import_module(f"microturn.kernels.gpu.{module}"), function))
        return found[0](*args, **kwargs)

    return call
