"""The append of keys and values, interpreted."""

from __future__ import annotations

from typing import TypedDict

import pytest
import torch
from torch import Tensor

from microturn.kernels import reference_attention, use_backend
from microturn.kernels.evidence import same_bits
from microturn.kernels.ops.kv import append_kv

pytestmark = pytest.mark.unit

EPS = 1e-6
GROUPS, WIDTH, PAGE = 2, 24, 16
STARTS = torch.tensor([0, 2, 2, 5], dtype=torch.int32)
SLOTS = torch.tensor([15, 32, 3, 4, 5])


class Arguments(TypedDict):
    """The operator's."""

    k: Tensor
    v: Tensor
    k_conv: Tensor
    v_conv: Tensor
    k_state: Tensor
    v_state: Tensor
    k_norm: Tensor
    eps: float
    keys: Tensor
    values: Tensor
    slots: Tensor
    starts: Tensor


def _arguments(dtype: torch.dtype) -> Arguments:
    generator = torch.Generator().manual_seed(5)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    channels = GROUPS * WIDTH
    return Arguments(
        k=drawn(5, channels), v=drawn(5, channels),
        k_conv=drawn(channels, 4), v_conv=drawn(channels, 4),
        k_state=drawn(3, 3, channels), v_state=drawn(3, 3, channels),
        k_norm=drawn(WIDTH), eps=EPS,
        keys=drawn(4, GROUPS, PAGE, WIDTH), values=drawn(4, GROUPS, PAGE, WIDTH),
        slots=SLOTS, starts=STARTS,
    )  # fmt: skip


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_pages_and_states_agree_with_the_oracle(dtype: torch.dtype, tolerance: float) -> None:
    arguments = _arguments(dtype)
    k_state, v_state, keys, values = reference_attention.append_kv(**arguments)
    with use_backend("interpreter"):
        new_k_state, new_v_state = append_kv(**arguments)
    assert torch.equal(new_k_state.double(), k_state)
    assert torch.equal(new_v_state.double(), v_state)
    torch.testing.assert_close(arguments["keys"].double(), keys, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(arguments["values"].double(), values, atol=tolerance, rtol=tolerance)


def test_nothing_but_the_slots_is_written() -> None:
    before, arguments = _arguments(torch.float32), _arguments(torch.float32)
    with use_backend("interpreter"):
        append_kv(**arguments)
    untouched = torch.ones(4, PAGE, dtype=torch.bool)
    untouched[SLOTS // PAGE, SLOTS % PAGE] = False
    for pool, found in ((before["keys"], arguments["keys"]), (before["values"], arguments["values"])):
        assert same_bits(pool.transpose(1, 2)[untouched], found.transpose(1, 2)[untouched])
