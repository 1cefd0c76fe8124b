"""Carries connections from inside a sandbox, which has no network, to the proxy outside of it.

Inside there is only the sandbox's own loopback interface. Connections to a port there are passed on to a socket file
that leads to the proxy, and the usual variables tell HTTP clients of that port. Runs in threads of its own, so that a
tool that blocks does not block its own requests.
"""

from __future__ import annotations

import os
import socket
import threading

from microturn.tools.egress.client import PROXY_VARIABLE

_PIECE_BYTES = 65_536
_WAITING = 8


def forward_to(path: str) -> None:
    """Listen on a free port of the loopback interface and pass connections on to the socket file at `path`.

    Sets `HTTPS_PROXY` and its like in this process.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=_WAITING)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for name in (PROXY_VARIABLE, "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        os.environ[name] = address
    threading.Thread(target=_accept, args=(listener, path), daemon=True).start()


def _accept(listener: socket.socket, path: str) -> None:
    while True:
        inner, _ = listener.accept()
        outer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            outer.connect(path)
        except OSError:
            inner.close()
            outer.close()
            continue
        for source, sink in ((inner, outer), (outer, inner)):
            threading.Thread(target=_carry, args=(source, sink), daemon=True).start()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until the source ends, then say so to the sink."""
    try:
        while piece := source.recv(_PIECE_BYTES):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, sink):
            each.close()
