from __future__ import annotations

import pytest
import torch

from microturn.kernels import BadShapeError, reference
from microturn.kernels.evidence import row_evidence, same_bits
from microturn.kernels.ops.flow import flow_step, guided_flow_step

pytestmark = pytest.mark.unit

DTYPES = (torch.float32, torch.bfloat16)
TOLERANCE = {torch.float32: 3e-7, torch.bfloat16: 4e-3}
ROWS = (1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 65, 257)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_steps_agree_with_float64(seed: int, dtype: torch.dtype) -> None:
    x, v, u = torch.randn(3, 4, 101, generator=torch.Generator().manual_seed(seed)).to(dtype)
    for found, expected in (
        (flow_step(x, v, 0.125), reference.flow_step(x, v, 0.125)),
        (guided_flow_step(x, v, u, 0.125, 2.5), reference.guided_flow_step(x, v, u, 0.125, 2.5)),
    ):
        assert found.dtype == dtype
        assert (found.double() - expected).norm() < TOLERANCE[dtype] * expected.norm()


def test_guidance_of_nought_and_one_takes_one_of_the_velocities() -> None:
    x, v, u = torch.randn(3, 50, generator=torch.Generator().manual_seed(3))
    assert same_bits(guided_flow_step(x, v, u, 0.1, 0.0), flow_step(x, u, 0.1))
    assert torch.allclose(guided_flow_step(x, v, u, 0.1, 1.0), flow_step(x, v, 0.1), atol=1e-6)


def test_a_step_leaves_its_arguments_as_they_were() -> None:
    x, v, u = torch.randn(3, 50, generator=torch.Generator().manual_seed(4))
    before = x.clone(), v.clone(), u.clone()
    flow_step(x, v, 0.1)
    guided_flow_step(x, v, u, 0.1, 2.0)
    assert all(same_bits(now, then) for now, then in zip((x, v, u), before, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_row_has_the_same_bits_in_every_batch(dtype: torch.dtype, threads: int) -> None:
    row = torch.randn(127, generator=torch.Generator().manual_seed(5)).to(dtype)
    for operator in (
        lambda x: flow_step(x, x.flip(-1), 0.3),
        lambda x: guided_flow_step(x, x.flip(-1), x * 0.7, 0.3, 1.7),
    ):
        evidence = row_evidence(operator, row, batches=ROWS, neighbours=("random", "large"))
        assert evidence.is_invariant, evidence.first


def test_a_velocity_of_another_shape_is_refused_by_name() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(BadShapeError, match=r"flow_step: expected velocity to be \(2, 3\)"):
        flow_step(x, torch.zeros(3), 0.1)
    with pytest.raises(BadShapeError, match="unconditional"):
        guided_flow_step(x, x, torch.zeros(3), 0.1, 1.0)
