"""Runs a command on a system that allows no namespaces: `python without_namespaces.py COMMAND...`.

The kernel refuses it, and all that it starts, the call `unshare`, as hardened machines and containers do.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from typing import Final

UNSHARE: Final = {"x86_64": 272, "aarch64": 97}
"""Number of the call. Source: the kernel's tables of system calls."""
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _EPERM = 0x7FFF0000, 0x00050001
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
"""Source: seccomp(2) and prctl(2) of Linux."""


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]


def refuse_namespaces() -> None:
    """Have the kernel refuse this process and its children new namespaces."""
    steps = b"".join(
        struct.pack("HBBI", *step)
        for step in (
            (_LOAD, 0, 0, 0),
            (_JUMP_IF_EQUAL, 0, 1, UNSHARE[platform.machine()]),
            (_RETURN, 0, 0, _EPERM),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(steps) // 8, steps)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(_SECCOMP, _FILTER, ctypes.byref(program)):
        sys.exit(f"the system takes no filter of calls: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    refuse_namespaces()
    os.execvp(sys.argv[1], sys.argv[1:])
