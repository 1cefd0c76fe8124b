"""Flow steps as Triton kernels, interpreted: elementwise, so in float32 the bits are those of the CPU."""

from __future__ import annotations

import pytest
import torch

from microturn.kernels import reference, use_backend
from microturn.kernels.cpu import flow as cpu
from microturn.kernels.evidence import row_evidence, same_bits
from microturn.kernels.gpu.flow import BLOCK
from microturn.kernels.gpu.flow import flow_step as kernel
from microturn.kernels.ops.flow import flow_step, guided_flow_step

pytestmark = pytest.mark.unit

GENERATOR = torch.Generator().manual_seed(7)
X, FIRST, SECOND = torch.randn(3, 3, BLOCK // 2 + 5, generator=GENERATOR).unbind()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_agree_with_the_oracle(dtype: torch.dtype) -> None:
    x, first, second = X.to(dtype), FIRST.to(dtype), SECOND.to(dtype)
    with use_backend("interpreter"):
        plain, guided = flow_step(x, first, 0.125), guided_flow_step(x, first, second, 0.125, 3.0)
    tolerance = 1e-6 if dtype == torch.float32 else 2**-7
    expected = reference.flow_step(x, first, 0.125), reference.guided_flow_step(x, first, second, 0.125, 3.0)
    torch.testing.assert_close(plain.double(), expected[0], atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(guided.double(), expected[1], atol=tolerance, rtol=tolerance)


def test_float32_steps_have_the_bits_of_the_cpu() -> None:
    with use_backend("interpreter"):
        plain, guided = flow_step(X, FIRST, 0.1), guided_flow_step(X, FIRST, SECOND, 0.1, 3.0)
    assert same_bits(plain, cpu.flow_step(X, FIRST, 0.1))
    assert same_bits(guided, cpu.guided_flow_step(X, FIRST, SECOND, 0.1, 3.0))


def test_a_row_has_the_same_bits_in_every_batch() -> None:
    evidence = row_evidence(lambda x: kernel(x, x * 0.5, 0.1), X[0], batches=(1, 2, 5))
    assert evidence.is_invariant, evidence.first
