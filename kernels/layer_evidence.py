"""Evidence about the leaf modules of a model: their recorded inputs, computed alone and in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from microturn.kernels.certificate import Finding
from microturn.kernels.evidence import Evidence, same_bits

BATCHES = (2, 3, 4, 5, 7, 8, 15, 16, 17, 33)
"""Rows in a batch; around the tiles of known matrix kernels, few enough for a model of hundreds of layers."""
_CLOSE = 1e-2
"""Rows that differ by less than this part of the largest number are the same function of the same row."""


@dataclass(frozen=True)
class _Call:
    """The first call of a module: its arguments, and which of them hold one row per sequence."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: int
    """Rows in the call: sequences, or tokens if the module knows no neighbours."""
    tokens: int
    """Entries that a row takes in a tensor whose first dimension is sequences and tokens in one; 1 if there is none."""

    def with_rows(self, indices: Sequence[int]) -> _Call:
        """The same call with these rows alone, in this order."""
        return _Call(
            tuple(self._chosen(value, indices) for value in self.args),
            {name: self._chosen(value, indices) for name, value in self.kwargs.items()},
            len(indices),
            self.tokens,
        )

    def _chosen(self, value: Any, indices: Sequence[int]) -> Any:
        sizes = (self.rows, self.rows * self.tokens)
        if not isinstance(value, Tensor) or not value.dim() or len(value) not in sizes:
            return value
        grouped = value.reshape(self.rows, -1, *value.shape[1:])
        return grouped[list(indices)].reshape(-1, *value.shape[1:])


def layer_findings(
    model: nn.Module,
    run: Callable[[], object],
    example: Tensor,
    batches: Sequence[int] = BATCHES,
) -> Iterator[Finding]:
    """Run the model once, record the first call of every leaf module, and repeat each in batches.

    Args:
        model: whose leaf modules are looked at.
        run: computes the model on an example.
        example: the first tensor of it, (B, ...), or (B, T, ...) with tokens.
        batches: rows in each repeated call.
    """
    for name, (module, call) in _recorded(model, run, example).items():
        yield Finding(name, type(module).__name__, _evidence(module, _by_token(module, call), batches))


def _recorded(
    model: nn.Module, run: Callable[[], object], example: Tensor
) -> Mapping[str, tuple[nn.Module, _Call]]:
    calls: dict[str, tuple[nn.Module, _Call]] = {}
    handles = []
    rows, tokens = len(example), example.shape[1] if example.dim() > 1 else 1

    def recorder(name: str) -> Callable[..., None]:
        def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.setdefault(name, (module, _copied(_Call(args, kwargs, rows, tokens))))

        return record

    for name, module in model.named_modules():
        if not any(module.children()):
            handles.append(module.register_forward_pre_hook(recorder(name), with_kwargs=True))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _copied(call: _Call) -> _Call:
    """A call whose tensors do not change when the model goes on."""
    return call.with_rows(range(call.rows))


def _by_token(module: nn.Module, call: _Call) -> _Call:
    """The call with one row per token, if the module gives the same numbers so; otherwise the call."""
    tensors = [value for value in (*call.args, *call.kwargs.values()) if isinstance(value, Tensor)]
    if not tensors or tensors[0].dim() < 3 or len(tensors[0]) != call.rows:
        return call
    tokens = call.rows * tensors[0].shape[1]
    flat = _Call(
        tuple(_flat(value, tensors[0].shape[:2]) for value in call.args),
        {name: _flat(value, tensors[0].shape[:2]) for name, value in call.kwargs.items()},
        tokens,
        1,
    )
    return flat if _same_function(module, call, flat) else call


def _flat(value: Any, shape: Sequence[int]) -> Any:
    if isinstance(value, Tensor) and value.shape[:2] == torch.Size(shape):
        return value.reshape(-1, 1, *value.shape[2:])
    return value


def _same_function(module: nn.Module, call: _Call, flat: _Call) -> bool:
    """Whether tokens, each alone, give nearly the numbers that they give in their sequence."""
    wanted = _outputs(module, call)
    try:
        found = [_outputs(module, flat.with_rows([index])) for index in range(flat.rows)]
    except (RuntimeError, ValueError, IndexError):
        return False  # the module looks at a sequence as a whole
    parts = [torch.cat([outputs[place].reshape(-1) for outputs in found]) for place in range(len(wanted))]
    return all(_close(part, whole.reshape(-1)) for part, whole in zip(parts, wanted, strict=True))


def _close(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape:
        return False
    gap = (found.double() - wanted.double()).abs().max()
    return bool(gap <= _CLOSE * wanted.double().abs().max())


def _evidence(module: nn.Module, call: _Call, batches: Sequence[int]) -> Evidence:
    """Rows 0 and last of a call, alone and at the first, the middle and the last place of every batch."""
    found = Evidence(0, 0)
    whole = _outputs(module, call)
    for row in sorted({0, call.rows - 1}):
        alone = _outputs(module, call.with_rows([row]))
        by_row = [place for place, one in enumerate(alone) if len(one) * call.rows == len(whole[place])]
        for count in batches if by_row else ():
            for place in sorted({0, count // 2, count - 1}):
                order = [(row + step - place) % call.rows for step in range(count)]
                batch = _outputs(module, call.with_rows(order))
                same = all(same_bits(alone[out], _row(batch[out], place, count)) for out in by_row)
                found += Evidence(1, int(not same), None if same else f"{count} rows, row {place}")
    return found


def _row(batch: Tensor, place: int, count: int) -> Tensor:
    size = len(batch) // count
    return batch[place * size : (place + 1) * size]


def _outputs(module: nn.Module, call: _Call) -> list[Tensor]:
    """The tensors that a module gives."""
    result = module(*call.args, **call.kwargs)
    parts = result if isinstance(result, (tuple, list)) else [result]
    return [part for part in parts if isinstance(part, Tensor) and part.dim()]
