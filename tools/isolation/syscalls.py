"""Takes system calls away from the calling process for good: starting processes, opening sockets, and a few others.

A filter of the kernel's own kind (seccomp), put together here because it is short. It returns an error to the
caller, so that Python raises `PermissionError` instead of dying.

Source: seccomp(2), and the tables of system calls in the Linux sources, for the two architectures below.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys
from dataclasses import dataclass

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_KILL = 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000
"""Numbers from here on are the same calls under other numbers, on x86-64."""
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_SET_PDEATHSIG = 38, 22, 1
_FILTER_MODE = 2
_SIGKILL = 9


@dataclass(frozen=True, slots=True)
class _Table:
    """The numbers of one architecture."""

    arch: int
    clone: int
    clone3: int
    starting: tuple[int, ...]
    """fork, vfork, execve, execveat, as far as there are."""
    socket: int
    never: tuple[int, ...]
    """ptrace, mount, unshare, setns, bpf, keyctl, perf_event_open, userfaultfd, io_uring_setup, process_vm_readv,
    process_vm_writev: no tool needs them, and many holes in kernels were reached through them."""


_TABLES = {
    "x86_64": _Table(
        0xC000003E, 56, 435, (57, 58, 59, 322), 41, (101, 165, 272, 308, 321, 250, 298, 323, 425, 310, 311)
    ),
    "aarch64": _Table(
        0xC00000B7, 220, 435, (221, 281), 198, (117, 40, 97, 268, 280, 219, 241, 282, 425, 270, 271)
    ),
}


def can_filter() -> bool:
    """Whether filters can be made for this machine."""
    return sys.platform == "linux" and platform.machine() in _TABLES and sys.maxsize > 2**32


def forbid(*, processes: bool, sockets: bool) -> None:
    """Take the calls away from the calling thread and all that it starts; what cannot be filtered here stays.

    Args:
        processes: also those that start a process or another program. Threads stay possible.
        sockets: also those that open a socket. Pairs of sockets stay possible; they lead nowhere outside.

    Raises:
        OSError: the kernel refuses the filter.
    """
    if not can_filter():
        return
    program = _program(_TABLES[platform.machine()], processes=processes, sockets=sockets)
    code = ctypes.create_string_buffer(b"".join(program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_SECCOMP, _FILTER_MODE, ctypes.c_char_p(header))


def die_with_parent() -> None:
    """Have the system kill the calling process when the thread that started it ends."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def _program(table: _Table, *, processes: bool, sockets: bool) -> list[bytes]:
    denied = [*table.never, *(table.starting if processes else ()), *((table.socket,) if sockets else ())]
    lines = [
        _line(_LOAD, _ARCH_AT),
        _line(_EQUAL, table.arch, skip_if=1),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER_AT),
        _line(_AT_LEAST, _X32, skip_unless=1),
        _line(_RETURN, _ERRNO | errno.EPERM),
    ]
    for number in denied:
        lines += [_line(_EQUAL, number, skip_unless=1), _line(_RETURN, _ERRNO | errno.EPERM)]
    if processes:
        lines += [
            # The arguments of clone3 lie in memory, where a filter cannot look. The C library falls back to clone.
            _line(_EQUAL, table.clone3, skip_unless=1),
            _line(_RETURN, _ERRNO | errno.ENOSYS),
            _line(_EQUAL, table.clone, skip_unless=3),
            _line(_LOAD, _FIRST_ARGUMENT_AT),
            _line(_BITS, _CLONE_THREAD, skip_if=1),
            _line(_RETURN, _ERRNO | errno.EPERM),
        ]
    return [*lines, _line(_RETURN, _ALLOW)]


def _line(code: int, value: int, *, skip_if: int = 0, skip_unless: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if, skip_unless, value)


def _prctl(option: int, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    padded = [*arguments, *(0 for _ in range(4 - len(arguments)))]
    longs = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in padded]
    if library.prctl(option, *longs) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the system refuses prctl option {option}")
