from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from microturn.kernels import gpu
from microturn.kernels.library import Operator

# Each of the modules of operators defines them when it is imported.
from microturn.kernels.ops import activation, dmel, flow, moe, norm, router, sampling, softmax

pytestmark = pytest.mark.unit

MODULES = (activation, dmel, flow, moe, norm, router, sampling, softmax)
DTYPES = (torch.float32, torch.bfloat16)


def calls(dtype: torch.dtype) -> dict[str, tuple[Any, ...]]:
    """Arguments for every operator of these modules."""
    x, wide, head = torch.ones(3, 8, dtype=dtype), torch.ones(8, dtype=dtype), torch.ones(11, 8, dtype=dtype)
    whole = torch.tensor([1, 2, 3])
    levels = torch.zeros(2, 80, dtype=torch.uint8)
    ids = torch.tensor([[0, 1], [1, 0], [1, 1]], dtype=torch.int32)
    gate_up, down = torch.ones(2, 12, 8, dtype=dtype), torch.ones(2, 8, 6, dtype=dtype)
    return {
        "add_rms_norm": (x, x, wide, 1e-6),
        "adaptive_rms_norm": (x, x, x, 1e-6),
        "dmel_embed": (levels, torch.ones(1280, 8, dtype=dtype), wide, 1e-6),
        "dmel_levels": (torch.zeros(2, 1600), torch.zeros(2, 800)),
        "flow_step": (x, x, 0.1),
        "guided_flow_step": (x, x, x, 0.1, 2.0),
        "lm_head_argmax": (x, head),
        "lm_head_logprob": (x, head, whole),
        "log_softmax": (x,),
        "mean": (x,),
        "moe": (x, gate_up, down, ids, torch.ones(3, 2)),
        "rms_norm": (x, wide, 1e-6),
        "route": (x, head, torch.zeros(9), 3, 2, 1.0),
        "sample": (x, whole, whole, torch.ones(3)),
        "silu": (x,),
        "softmax": (x,),
        "swiglu": (x,),
    }


def test_every_operator_of_these_modules_is_tried_here() -> None:
    defined = {
        value.overload._schema.name.removeprefix("microturn::")
        for module in MODULES
        for value in vars(module).values()
        if isinstance(value, Operator)
    }
    assert defined == calls(torch.float32).keys()


@pytest.mark.timeout(120)  # of which most is the import of PyTorch's tracing
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", calls(torch.float32))
def test_an_operator_changes_no_argument_and_traces_to_its_shapes(name: str, dtype: torch.dtype) -> None:
    overload = getattr(torch.ops.microturn, name).default
    torch.library.opcheck(overload, calls(dtype)[name], test_utils=("test_schema", "test_faketensor"))


def test_every_operator_names_a_function_of_the_gpu_package_that_exists() -> None:
    # Read, not imported: Triton decides for good on its first import whether it interprets.
    package = Path(inspect.getfile(gpu)).parent
    for module in MODULES:
        source = inspect.getsource(module)
        named = re.findall(r'gpu="(\w+):(\w+)"', source)
        assert named, module.__name__
        for file, function in named:
            assert f"\ndef {function}(" in (package / f"{file}.py").read_text(encoding="utf-8")
