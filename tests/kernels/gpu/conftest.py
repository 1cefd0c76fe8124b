"""Runs the Triton kernels in Triton's interpreter, which must be chosen before Triton is imported anywhere."""

from __future__ import annotations

import os
import sys

_CHOSEN = os.environ.setdefault("TRITON_INTERPRET", "1") == "1"
_LIBRARY = sys.modules.get("triton.language.standard")

if not _CHOSEN or (_LIBRARY is not None and type(_LIBRARY.sum).__name__ != "InterpretedFunction"):
    # Triton's own functions are compiled or interpreted for good when they are imported.
    raise RuntimeError(
        "the tests of the Triton kernels expected to choose the interpreter, and Triton was imported without it; "
        "set the environment variable TRITON_INTERPRET=1 before pytest starts"
    )
