"""A mode in which PyTorch's own operators are batch-invariant, for models that do not call `torch.ops.microturn`.

While it is on, the operators of `_BODIES` are replaced in PyTorch's dispatcher, below autograd: gradients, inference
mode and `torch.compile` with a backend that keeps the operators (`eager`, `aot_eager`) work as before. Inductor makes
kernels of its own, which the mode does not reach, and a compiled graph keeps the attention that it was traced with.

The dispatcher belongs to the process, so the mode holds for all its threads; switch it while no other thread computes.
Backward passes call the same products; the derivatives of activations stay PyTorch's.

Not replaced, because `row_evidence` found no difference on the CPU along the innermost dimension: softmax,
log-softmax, logsumexp, layer and RMS norm, cumsum, sort, topk, argmax, exp, log, erf, tanh, sin, cos, sqrt, relu,
glu, hardswish, logsigmoid and arithmetic. `var` and vector norms hold for two rows and more. Transposed convolutions,
recurrent layers and FFTs are neither replaced nor covered.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from microturn.kernels import aten_functions as bodies
from microturn.kernels.library import Backend, use_backend

_BODIES: dict[str, Callable[..., Tensor]] = {
    "mm": bodies.mm,
    "addmm": bodies.addmm,
    "bmm": bodies.bmm,
    "baddbmm": bodies.baddbmm,
    "mv": bodies.mv,
    "addmv": bodies.addmv,
    "convolution": bodies.convolution,
    "silu": bodies.silu,
    "sigmoid": bodies.sigmoid,
    "gelu": bodies.gelu,
    "mean.dim": bodies.mean,
    "sum.dim_IntList": bodies.total,
    "_softmax": bodies.softmax_of_any_dimension,
    "_log_softmax": bodies.log_softmax_of_any_dimension,
}
_CPU_ONLY = {
    name: bodies.strided for name in ("softplus", "mish", "elu", "exp2", "pow.Tensor_Scalar", "rsqrt")
}
"""PyTorch's CUDA kernels have one path for all elements."""
_IN_PLACE = {
    "addmm_": "addmm",
    "baddbmm_": "baddbmm",
    "silu_": "silu",
    "sigmoid_": "sigmoid",
    "gelu_": "gelu",
    "mish_": "mish",
    "elu_": "elu",
    "exp2_": "exp2",
    "rsqrt_": "rsqrt",
    "pow_.Scalar": "pow.Tensor_Scalar",
}
_INTO = {f"{name}.out": name for name in ("mm", "addmm", "bmm", "baddbmm", "silu", "sigmoid", "gelu")}


class _Inside(threading.local):
    """Whether this thread is within an override, whose own calls must reach the native kernels."""

    active = False


_inside = _Inside()
_lock = threading.RLock()


class _Block:
    """One open `set_batch_invariant_mode`."""

    def __init__(self, on: bool) -> None:
        self.on = on


_blocks: list[_Block] = []
"""In the order in which they were entered; those of several threads may end in any order."""
_installed: list[torch.library.Library] = []
_default = False


@contextmanager
def set_batch_invariant_mode(on: bool = True, backend: Backend | Literal["auto"] = "auto") -> Iterator[None]:
    """Switch the mode on, or off, inside this block; blocks nest, and end with an exception as well.

    Args:
        on: whether operators are batch-invariant inside. Of all open blocks the one that began last decides.
        backend: what computes tensors on the CPU in this thread, as for `use_backend`; `auto` leaves it as it is.
    """
    block = _Block(on)
    with _lock:
        _blocks.append(block)
        _apply()
    try:
        with nullcontext() if backend == "auto" else use_backend(backend):
            yield
    finally:
        with _lock:
            _blocks.remove(block)
            _apply()


def enable_batch_invariant_mode() -> None:
    """Switch the mode on for the whole process, until `disable_batch_invariant_mode`; open blocks go first."""
    _set_default(True)


def disable_batch_invariant_mode() -> None:
    """Take `enable_batch_invariant_mode` back; an open block that asks for the mode keeps it on."""
    _set_default(False)


def is_batch_invariant_mode() -> bool:
    """Whether the mode is on."""
    return bool(_installed)


def _set_default(on: bool) -> None:
    global _default
    with _lock:
        _default = on
        _apply()


def _apply() -> None:
    """Make the dispatcher what the newest block asks for."""
    wanted = _blocks[-1].on if _blocks else _default
    if wanted and not _installed:
        _installed.append(_install())
    elif _installed and not wanted:
        _installed.pop()._destroy()


def _install() -> torch.library.Library:
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        # PyTorch warns of every replacement, which is what is wanted here.
        warnings.filterwarnings("ignore", message="(?s).*Overriding a previously registered kernel")
        for name, body in (_BODIES | _CPU_ONLY).items():
            _register(library, name, name, body, _as_function)
        for target, name in _IN_PLACE.items():
            _register(library, target, name, (_BODIES | _CPU_ONLY)[name], _as_update)
        for target, name in _INTO.items():
            _register(library, target, name, _BODIES[name], _as_output)
        attention = bodies.scaled_dot_product_attention
        library.impl("scaled_dot_product_attention", attention, "CompositeImplicitAutograd")
    return library


_Shape = Callable[[Callable[..., Tensor], Callable[..., Any]], Callable[..., Tensor]]


def _register(
    library: torch.library.Library, target: str, name: str, body: Callable[..., Tensor], shape: _Shape
) -> None:
    """Replace `target`, whose values are those of the operator `name`, on every device that is here."""
    devices = ["CPU"]
    if torch.version.cuda is not None and name in _BODIES:
        devices.append("CUDA")
    for device in devices:
        kernel = torch.library.get_kernel(f"aten::{target}", device)
        values = torch.library.get_kernel(f"aten::{name}", device)
        library.impl(
            target, _override(kernel, shape(body, _caller(values, device))), device, with_keyset=True
        )


def _caller(kernel: Any, device: str) -> Callable[..., Any]:
    """A native kernel as a function of the operator's arguments alone."""
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, device))
    return lambda *args, **kwargs: kernel.call_boxed(keys, *args, **kwargs)


def _override(kernel: Any, body: Callable[..., Tensor]) -> Callable[..., Any]:
    def override(keys: Any, *args: Any, **kwargs: Any) -> Any:
        if _inside.active:
            return kernel.call_boxed(keys, *args, **kwargs)
        _inside.active = True
        try:
            return body(*args, **kwargs)
        finally:
            _inside.active = False

    return override


def _as_function(body: Callable[..., Tensor], native: Callable[..., Any]) -> Callable[..., Tensor]:
    return lambda *args, **kwargs: body(native, *args, **kwargs)


def _as_update(body: Callable[..., Tensor], native: Callable[..., Any]) -> Callable[..., Tensor]:
    return lambda x, *args, **kwargs: x.copy_(body(native, x, *args, **kwargs))


def _as_output(body: Callable[..., Tensor], native: Callable[..., Any]) -> Callable[..., Tensor]:
    def into(*args: Any, out: Tensor, **kwargs: Any) -> Tensor:
        result = body(native, *args, **kwargs)
        return out.resize_(result.shape).copy_(result)

    return into
