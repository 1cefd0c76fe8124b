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
from torch import Tensor

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


class Operator:
    """A registered operator, called with all its arguments by position; the first one is a tensor.

    In inference mode on the CPU, where nothing listens to PyTorch's dispatcher, a call goes past it.

    Args:
        overload: as PyTorch knows it.
        on_cpu: its implementation for the CPU.
    """

    __slots__ = ("_on_cpu", "overload")

    def __init__(self, overload: torch._ops.OpOverload[..., Any], on_cpu: Callable[..., Any]) -> None:
        self.overload = overload
        self._on_cpu = on_cpu

    def __call__(self, first: Tensor, *args: Any) -> Any:
        """Compute."""
        if _is_plain_call(first):
            return self._on_cpu(first, *args)
        return self.overload(first, *args)


def define(schema: str, *, cpu: Callable[..., Any], gpu: str, fake: Callable[..., Any]) -> Operator:
    """Register one operator under `torch.ops.microturn`.

    Args:
        schema: its signature in PyTorch's schema language, as `linear(Tensor x, Tensor weight) -> Tensor`.
        cpu: the implementation for the CPU.
        gpu: the Triton implementation as `module:function` under `microturn.kernels.gpu`, imported on first use.
        fake: gives empty tensors of the right shapes, for tracing.

    Returns:
        The operator, to be called by its typed wrapper.
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
    return Operator(getattr(getattr(torch.ops, NAMESPACE), name).default, on_cpu)


def _is_plain_call(first: Tensor) -> bool:
    """Whether PyTorch's dispatcher would do nothing but find the implementation for the CPU; it takes 3 us for that.

    In inference mode there are no gradients to follow; what else could listen is asked for here.
    """
    return (
        torch.is_inference_mode_enabled()
        and type(first) is Tensor
        and first.is_cpu
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._len_torch_function_stack()
        and not torch.compiler.is_compiling()
        and not torch.autograd.profiler._is_profiler_enabled
        and torch._C._functorch.peek_interpreter_stack() is None
    )


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
