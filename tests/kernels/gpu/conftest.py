"""Runs the Triton kernels in Triton's interpreter, which must be chosen before Triton is imported anywhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

_CHOSEN = os.environ.setdefault("TRITON_INTERPRET", "1") == "1"
_LIBRARY = sys.modules.get("triton.language.standard")

if not _CHOSEN or (_LIBRARY is not None and type(_LIBRARY.sum).__name__ != "InterpretedFunction"):
    # Triton's own functions are compiled or interpreted for good when they are imported.
    raise RuntimeError(
        "the tests of the Triton kernels expected to choose the interpreter, and Triton was imported without it; "
        "set the environment variable TRITON_INTERPRET=1 before pytest starts"
    )


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill new memory with NaN, and integers with -1, so that what a kernel forgets to write is seen."""

    def filled(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def poisoned_make(*args: Any, **kwargs: Any) -> Tensor:
            made = make(*args, **kwargs)
            return made.fill_(float("nan") if made.is_floating_point() else -1)

        return poisoned_make

    for name in ("empty", "empty_like"):
        monkeypatch.setattr(torch, name, filled(getattr(torch, name)))
