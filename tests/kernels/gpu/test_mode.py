"""The batch-invariant mode over the Triton kernels: what a GPU's dispatcher would call, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from microturn.kernels.aten_overrides import set_batch_invariant_mode
from microturn.kernels.evidence import row_evidence, same_bits

pytestmark = pytest.mark.unit


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


WEIGHT = noise(32, 48)


def results(x: Tensor) -> list[Tensor]:
    return [
        F.linear(x, WEIGHT),
        F.linear(x, WEIGHT, WEIGHT[:, 0]),
        x @ WEIGHT.t(),
        torch.bmm(x[None], WEIGHT.t()[None]),
        x.softmax(-1),
        x.log_softmax(0),
        x.mean(0),
        x.mean((0, 1)),
        x.sum(1),
        F.silu(x),
        F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None]),
    ]


def test_values_are_those_of_pytorch() -> None:
    x = noise(5, 48)
    wanted = results(x)
    with set_batch_invariant_mode(backend="interpreter"):
        found = results(x)
    for index, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=2e-5), index
    assert not all(same_bits(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize("columns", [1, 5, 48])
def test_sums_of_halves_are_sums_of_rows_alone(columns: int) -> None:
    with set_batch_invariant_mode(backend="interpreter"):
        assert row_evidence(lambda x: x.sum(-1), noise(columns), batches=(2, 5, 17)).is_invariant
        assert torch.allclose(
            noise(3, columns).sum(-1), noise(3, columns).double().sum(-1).float(), atol=1e-5
        )
