"""The process in which the trace viewer runs, cut off from the network: `viewer_cell PARENT LISTENER PROGRAM DATABASE`.

A network namespace has a loopback interface of its own and nothing else, so that nobody reaches the program from
another machine, whatever it listens on. The listener was opened outside, where users are; what connects to it is copied
to the program inside and back.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Final

from microturn.background_agent import die_with_parent

INSIDE: Final = ("127.0.0.1", 4318)
"""Where the program listens, in its own network. Source: the port that OTLP over HTTP is given by its specification."""
START_LIMIT_S: Final = 8.0
REFUSED: Final = os.EX_NOPERM
"""Exit status where the system allows no network of its own; the last line on standard error says why."""
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
"""Source: unshare(2) of Linux."""
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1
"""Source: netdevice(7) of Linux."""


def main() -> None:
    """Run the program until this process is ended; writes `ready` when it takes connections."""
    parent, listener, program, database = sys.argv[1:]
    die_with_parent(int(parent))
    leave_network()
    viewer = subprocess.Popen(
        [program, "--port", str(INSIDE[1]), "--db", database, "serve"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=_die_with_me,  # noqa: PLW1509  # no other thread of this process runs yet
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        _await(viewer)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        _serve(socket.socket(fileno=int(listener)))
    finally:
        viewer.terminate()


def leave_network() -> None:
    """Move this process into a network of its own, in which it reaches itself alone.

    Raises:
        SystemExit: the system does not allow it; the status is `REFUSED`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0 and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        sys.stderr.write(f"{os.strerror(ctypes.get_errno())}\n")
        sys.exit(REFUSED)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _die_with_me() -> None:
    die_with_parent(os.getppid())


def _await(viewer: subprocess.Popen[bytes]) -> None:
    """Wait until the program takes connections.

    Raises:
        SystemExit: it ended, or took too long.
    """
    until_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until_s:
        if viewer.poll() is not None:
            sys.exit(f"it ended at once with status {viewer.returncode}")
        try:
            socket.create_connection(INSIDE, timeout=1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    sys.exit(f"it took no connection within {START_LIMIT_S:g} s")


def _serve(listener: socket.socket) -> None:
    listener.setblocking(True)
    while True:
        outside, _ = listener.accept()
        inside = socket.create_connection(INSIDE)
        for source, target in ((outside, inside), (inside, outside)):
            threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until one side has ended, and tell the other."""
    try:
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


if __name__ == "__main__":
    main()
