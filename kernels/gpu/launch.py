"""What every launcher needs to know: interpreter or device, its processors, the compiler's names of dtypes."""

from __future__ import annotations

from functools import cache

import torch
import triton
from torch import Tensor

INTERPRET: bool = triton.knobs.runtime.interpret
"""Whether the kernels of this process run in Triton's interpreter, which is decided when they are imported."""

TYPE_NAMES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.int32: "i32",
    torch.int64: "i64",
}

INTERPRETER_PROCESSORS = 2
"""Few, so that a persistent program takes more than one tile in a test."""


def processors(device: torch.device) -> int:
    """Streaming multiprocessors of a device: 132 for an H100."""
    if device.type != "cuda":
        return INTERPRETER_PROCESSORS
    return _processors(torch.cuda.current_device() if device.index is None else device.index)


@cache
def _processors(index: int) -> int:
    count: int = torch.cuda.get_device_properties(index).multi_processor_count
    return count


def ceil_div(total: int, part: int) -> int:
    """How many parts cover the total."""
    return -(-total // part)


def power_of_two(count: int) -> int:
    """The smallest power of two that is not below `count`."""
    return 1 << max(0, count - 1).bit_length()


def whole_rows(x: Tensor) -> Tensor:
    """x (..., C) as contiguous rows (R, C) from a multiple of 16 bytes on, copied if it lies otherwise.

    A kernel is compiled anew for arguments that are not multiples of 16, and then spreads a row over threads in another
    way: a sum over the row would get other bits in a view than in a copy.
    """
    rows = x.reshape(-1, x.shape[-1])
    if rows.is_contiguous() and rows.data_ptr() % 16 == 0:
        return rows
    return rows.clone(memory_format=torch.contiguous_format)
