"""Makes a model batch-invariant as it is, and certifies that a model is."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microturn.kernels._errors import BadShapeError
from microturn.kernels.aten_overrides import set_batch_invariant_mode
from microturn.kernels.certificate import Certificate, Finding
from microturn.kernels.evidence import Evidence, same_bits
from microturn.kernels.fingerprint import numerics_fingerprint
from microturn.kernels.layer_evidence import BATCHES, layer_findings

Model = TypeVar("Model", bound=nn.Module)

CHUNKS = (1, 2, 5, 7, 30, 50)
"""Tokens per call when a sequence is computed in pieces."""
PADDING = (1, 7, 32)
"""Tokens of padding on the right."""
_made_invariant: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def make_batch_invariant(model: Model) -> Model:
    """Let a model compute in the batch-invariant mode, and cut attention at fixed places.

    Every call of the model, and of what calls it such as `generate`, enters the mode and leaves it; a submodule that is
    called by itself does not. In a model of the package `transformers` the attention is replaced by one whose splits
    lie at fixed positions of each sequence, with any cache and any padding, and experts are computed one by one. A
    model of another kind is covered as far as it uses PyTorch's `scaled_dot_product_attention` with caches and masks
    whose key 0 is the sequence's first.

    Entering the mode takes about a millisecond: around many short calls hold `set_batch_invariant_mode` yourself. On
    the CPU `prepare_linears` of the model's weights makes short calls faster, with the same bits.

    Args:
        model: changed in place; a second call changes nothing.

    Returns:
        The model.
    """
    if model in _made_invariant:
        return model
    if _is_of_transformers(model):
        attention = import_module("microturn.kernels.transformers_attention")
        attention.register()
        model.set_attn_implementation(attention.NAME)  # type: ignore[operator]  # the package is not typed
        if model._can_set_experts_implementation():  # type: ignore[operator]  # as above
            model.set_experts_implementation("eager")  # type: ignore[operator]  # as above
    model.forward = _in_mode(model.forward)
    _made_invariant.add(model)
    return model


def _is_of_transformers(model: nn.Module) -> bool:
    return any(kind.__module__ == "transformers.modeling_utils" for kind in type(model).__mro__)


def _in_mode(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def invariant_forward(*args: Any, **kwargs: Any) -> Any:
        with set_batch_invariant_mode():
            return forward(*args, **kwargs)

    return invariant_forward


@torch.no_grad()
def certify(
    model: nn.Module,
    example: Tensor | Mapping[str, Tensor],
    *,
    batches: Sequence[int] = BATCHES,
    chunks: Sequence[int] = CHUNKS,
) -> Certificate:
    """Compute an example's rows in many arrangements and compare the bits.

    Every leaf module is run on inputs recorded from the model, alone and in batches. The model is run on each row alone
    and with others; if it takes token ids, also with padding on the right; if it returns a cache, also in chunks.

    Args:
        model: in evaluation mode, and as it will be used: made batch-invariant, or not.
        example: what the model is called with, (B, ...) with B of at least 2; by name, or one tensor by place. Token
            ids are called `input_ids`, (B, T).
        batches: rows in the calls of leaf modules.
        chunks: tokens per call of a causal language model.

    Raises:
        BadShapeError: the example has fewer than two rows.
    """
    inputs = dict(example) if isinstance(example, Mapping) else {"": example}
    first = next(iter(inputs.values()))
    rows = len(first)
    if rows < 2:
        raise BadShapeError("certify", "example", expected="two rows or more", got=f"{rows} rows")
    runner = _Runner(model, inputs, rows)
    with _mode_of(model):
        layers = tuple(layer_findings(model, runner.run, first, batches))
    return Certificate(type(model).__name__, numerics_fingerprint(), layers, tuple(runner.findings(chunks)))


def _mode_of(model: nn.Module) -> AbstractContextManager[None]:
    """The mode in which the model itself computes, for parts of it that are called by themselves."""
    return set_batch_invariant_mode() if model in _made_invariant else nullcontext()


class _Runner:
    """Runs one model on rows of one example."""

    def __init__(self, model: nn.Module, inputs: dict[str, Tensor], rows: int) -> None:
        self._model = model
        self._inputs = inputs
        self._rows = rows
        self._alone = [self._output(self.run([row]))[0] for row in range(rows)]

    def run(self, rows: Sequence[int] | None = None, **more: Any) -> Any:
        """The model's result for some rows, in this order."""
        chosen = {name: value if rows is None else value[list(rows)] for name, value in self._inputs.items()}
        if "" in chosen:
            return self._model(chosen[""], **more)
        return self._model(**(chosen | more))

    @staticmethod
    def _output(result: Any) -> Tensor:
        for name in ("logits", "last_hidden_state"):
            if isinstance(found := getattr(result, name, None), Tensor):
                return found
        first = result[0] if isinstance(result, (tuple, list)) else result
        if not isinstance(first, Tensor):
            raise BadShapeError("certify", "the model's result", expected="a tensor first", got=type(first))
        return first

    def findings(self, chunks: Sequence[int]) -> list[Finding]:
        """All comparisons that this model allows."""
        found = [("a row alone and among others", self._in_company())]
        if "input_ids" in self._inputs:
            found.append(("without and with padding", self._padded()))
            if getattr(self.run([0], use_cache=True), "past_key_values", None) is not None:
                found.append(("at once and in chunks", self._in_chunks(chunks)))
        return [Finding(name, "model", evidence) for name, evidence in found]

    def _in_company(self) -> Evidence:
        evidence = Evidence(0, 0)
        for count in range(2, self._rows + 1):
            for first in range(self._rows):
                order = [(first + step) % self._rows for step in range(count)]
                batch = self._output(self.run(order))
                for place, row in enumerate(order):
                    evidence += _compared(self._alone[row], batch[place], f"{count} rows, row {place}")
        return evidence

    def _padded(self) -> Evidence:
        evidence = Evidence(0, 0)
        ids = self._inputs["input_ids"]
        length = ids.shape[1]
        for amount in PADDING:
            mask = F.pad(torch.ones_like(ids), (0, amount))
            batch = self.run(None, input_ids=F.pad(ids, (0, amount)), attention_mask=mask)
            for row, logits in enumerate(self._output(batch)):
                note = f"{amount} tokens of padding, row {row}"
                evidence += _compared(self._alone[row], logits[:length], note)
        return evidence

    def _in_chunks(self, chunks: Sequence[int]) -> Evidence:
        evidence = Evidence(0, 0)
        for size in chunks:
            batch = self._chunked(self._inputs["input_ids"], size)
            for row, logits in enumerate(batch):
                evidence += _compared(self._alone[row], logits, f"chunks of {size}, row {row}")
        return evidence

    def _chunked(self, ids: Tensor, size: int) -> Tensor:
        cache, parts = None, []
        for part in ids.split(size, dim=1):
            result = self._model(input_ids=part, past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            parts.append(self._output(result))
        return torch.cat(parts, dim=1)


def _compared(alone: Tensor, other: Tensor, note: str) -> Evidence:
    """One check per position; for a result without positions, one check."""
    if alone.dim() < 2 or len(alone) != len(other):
        same = same_bits(alone, other)
        return Evidence(1, int(not same), None if same else note)
    differing = [index for index in range(len(alone)) if not same_bits(alone[index], other[index])]
    first = f"{note}, position {differing[0]}" if differing else None
    return Evidence(len(alone), len(differing), first)
