from __future__ import annotations

import os

import pytest
import torch
from torch.nn import functional as F

from microturn.kernels import BadShapeError, reference
from microturn.kernels.evidence import BATCHES, row_evidence, same_bits
from microturn.kernels.ops import activation

pytestmark = pytest.mark.unit

IS_LONG = os.environ.get("MICROTURN_LONG_TESTS") == "1"
ROWS = BATCHES if IS_LONG else (1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 65, 129, 257)
WIDTHS = (2, 62, 96, 126, 254, 1022, 2048) if IS_LONG else (62, 126, 254)
"""Most leave a remainder after any vector, and so does half of them, which swiglu sees."""
DTYPES = (torch.float32, torch.bfloat16)
HAS_VECTORS = torch.backends.cpu.get_cpu_capability() != "DEFAULT"
TOLERANCE = {torch.float32: 5e-7, torch.bfloat16: 4e-3}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_activations_agree_with_float64(scale: float, seed: int, dtype: torch.dtype) -> None:
    x = (torch.randn(5, 3, 202, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)
    for found, expected in (
        (activation.silu(x), reference.silu(x)),
        (activation.swiglu(x), reference.swiglu(x)),
    ):
        assert found.dtype == dtype
        assert (found.double() - expected).norm() < TOLERANCE[dtype] * expected.norm()


def test_silu_of_extreme_numbers_is_finite() -> None:
    x = torch.tensor([-3e38, -200.0, -88.8, -0.0, 0.0, 88.8, 200.0, 3e38])
    found = activation.silu(x)
    assert torch.allclose(found.double(), reference.silu(x), rtol=1e-6, atol=1e-36)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_has_the_same_bits_in_every_batch(width: int, dtype: torch.dtype, threads: int) -> None:
    row = torch.randn(width, generator=torch.Generator().manual_seed(3)).to(dtype)
    for operator in (activation.silu, activation.swiglu):
        evidence = row_evidence(operator, row, batches=ROWS, neighbours=("random", "large"))
        assert evidence.is_invariant, evidence.first


@pytest.mark.skipif(not HAS_VECTORS, reason="without vector instructions PyTorch's silu has no remainder")
def test_pytorchs_silu_does_not_pass_this_test() -> None:
    row = torch.randn(127, generator=torch.Generator().manual_seed(3))
    assert row_evidence(F.silu, row, batches=ROWS, neighbours=("random",)).mismatches > 0


@pytest.mark.parametrize("length", [1, 3, 7, 17, 31, 100, 257, 2047])
def test_a_number_has_the_same_bits_wherever_it_lies(length: int) -> None:
    numbers = torch.randn(3000, generator=torch.Generator().manual_seed(4))
    everywhere = activation.silu(numbers)
    for offset in range(33):
        part = slice(offset, offset + length)
        assert same_bits(activation.silu(numbers[part]), everywhere[part])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_layout_in_memory_does_not_change_bits(dtype: torch.dtype) -> None:
    x = torch.randn(9, 102, generator=torch.Generator().manual_seed(5)).to(dtype)
    by_columns = x.t().contiguous().t()
    for operator in (activation.silu, activation.swiglu):
        assert same_bits(operator(by_columns).contiguous(), operator(x))


def test_an_odd_last_dimension_is_refused_by_name() -> None:
    with pytest.raises(BadShapeError, match=r"swiglu: expected gate_up to be \(\.\.\., 2I\)"):
        activation.swiglu(torch.zeros(2, 7))
