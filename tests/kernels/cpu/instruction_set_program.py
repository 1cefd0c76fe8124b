"""Computes linears under the instruction sets that the environment allows, and prints what it found as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from functools import partial

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor

from microturn.kernels.cpu.probe import policy_for
from microturn.kernels.cpu.processor import processor
from microturn.kernels.evidence import row_evidence, same_bits
from microturn.kernels.ops.int8 import linear_int8, quantize_weight
from microturn.kernels.ops.linear import linear, prepare_linears

ROWS = (2, 4, 7, 8, 17, 50)
INNER, OUTER = 1100, 72


def numbers(*shape: int, seed: int) -> Tensor:
    """Integers over 1,024, which need no library to draw alike: a linear congruential generator of our choice."""
    state, drawn = seed, []
    for _ in range(torch.Size(shape).numel()):
        state = (1103515245 * state + 12345) % 2**31
        drawn.append((state >> 12) % 4096 - 2048)
    return torch.tensor(drawn, dtype=torch.float32).view(shape) / 1024


def digest(result: Tensor) -> str:
    return hashlib.sha256(result.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def findings() -> dict[str, object]:
    x, weight, bias = numbers(9, INNER, seed=1), numbers(OUTER, INNER, seed=2), numbers(OUTER, seed=3)
    levels, scale = quantize_weight(weight)
    found: dict[str, object] = {
        "policy": policy_for(torch.float32, INNER, OUTER).name,
        "narrow_policy": policy_for(torch.bfloat16, INNER, OUTER).name,
        "float32": digest(linear(x, weight, bias)),
        "int8": digest(linear_int8(x, levels, scale, bias)),
        "int8_sums_are_exact": exact_sums(),
        "processor": processor().fingerprint(),
        "prepared_rows_agree": prepared_rows_agree(x, weight, bias),
    }
    row, weight = cancelling(x[0], weight)
    for dtype in (torch.float32, torch.bfloat16):
        operator = partial(linear, weight=weight.to(dtype))
        found[f"{dtype} is invariant"] = row_evidence(operator, row.to(dtype), batches=ROWS).is_invariant
    return found


def cancelling(row: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The first halves twice, once negated: what is left was rounded off, and tells of the order of additions."""
    half = INNER // 2
    return row[:half].repeat(2), torch.cat([weight[:, :half], -weight[:, :half]], dim=1)


def prepared_rows_agree(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether single rows, which a prepared weight may compute in a way of its own, have the bits of all at once."""
    prepared = weight.clone()
    prepare_linears([prepared], rows=(1,))
    together = linear(x, weight, bias)
    alone = [linear(row.unsqueeze(0), prepared, bias) for row in x]
    return same_bits(torch.cat(alone), together)


def exact_sums() -> bool:
    """Whether the largest possible products add up: what saturates in 16 bits would show here."""
    levels = torch.full((OUTER, INNER), -64, dtype=torch.int8)
    for rows in ROWS:
        sums = linear_int8(torch.full((rows, INNER), 127.0), levels, torch.ones(OUTER))
        if not bool((sums == -64 * 127 * INNER).all()):
            return False
    return True


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    sys.stdout.write(json.dumps(findings()))
