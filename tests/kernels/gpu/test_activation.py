"""Activations in the interpreter against float64."""

from __future__ import annotations

import pytest
import torch

from microturn.kernels import reference
from microturn.kernels.evidence import same_bits
from microturn.kernels.gpu import activation

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("poisoned")]


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize("shape", [(3, 8), (2, 3, 202), (1, 2 * (activation.BLOCK + 3)), (0, 4)])
def test_activations_are_close_to_float64(dtype: torch.dtype, limit: float, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape).to(dtype)
    torch.testing.assert_close(activation.silu(x).double(), reference.silu(x), rtol=limit, atol=1e-7)
    torch.testing.assert_close(activation.swiglu(x).double(), reference.swiglu(x), rtol=limit, atol=1e-7)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
def test_large_numbers_end_in_zero_or_in_themselves() -> None:
    x = torch.tensor([-1e4, -200.0, 200.0, 1e4])
    assert activation.silu(x).tolist() == [0.0, 0.0, 200.0, 1e4]


def test_bits_do_not_depend_on_the_place() -> None:
    x = torch.randn(301)
    alone = torch.cat([activation.silu(part) for part in x[:, None]])
    assert same_bits(activation.silu(x), alone)
    assert same_bits(activation.silu(x[1:]), alone[1:])
    gate_up = torch.randn(5, 86)
    rows = torch.cat([activation.swiglu(row) for row in gate_up[:, None]])
    assert same_bits(activation.swiglu(gate_up), rows)


def test_columns_of_a_wider_matrix_are_taken_as_they_lie() -> None:
    wide = torch.randn(4, 100)
    assert same_bits(activation.swiglu(wide[:, :60]), activation.swiglu(wide[:, :60].contiguous()))
