"""The local trace viewer: the program `tv` of the package trace-view, beside this process and gone with it.

The program would listen on every interface of the machine. It is therefore given a network of its own where the
system allows that, into which only connections to the loopback interface are handed.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import platformdirs
from anyio.abc import Process

from microturn.background_agent import end_child
from microturn.protocols import UnavailableError
from microturn.runtime._errors import MissingExtraError, ViewerRefusedError
from microturn.runtime.telemetry.viewer_cell import REFUSED

LOOPBACK: Final = "127.0.0.1"
START_LIMIT_S: Final = 10.0
PROGRAM: Final = "tv"


@asynccontextmanager
async def trace_viewer(port: int = 0) -> AsyncIterator[str]:
    """Run the viewer until the end of the block; yield its address, such as `http://127.0.0.1:4318`.

    What it is sent is kept in the state folder, so that earlier conversations are there, too.

    Args:
        port: where it is to listen on the loopback interface; 0 has the system choose.

    Raises:
        MissingExtraError: the program is not installed.
        ViewerRefusedError: the system does not let it be cut off from the network.
        UnavailableError: it could not be started.
    """
    if sys.platform != "linux":
        raise ViewerRefusedError("the viewer can be cut off from the network on Linux only")
    program = find_viewer()
    if program is None:
        raise MissingExtraError("trace-view", "telemetry", "looking at traces on this machine")
    database = Path(platformdirs.user_state_dir("microturn")) / "viewer" / "traces.db"
    database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with socket.create_server((LOOPBACK, port)) as listener:
        address = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        process = await _start(program, database, listener)
        try:
            await _await_ready(process)
            yield address
        finally:
            await end_child(process)


def find_viewer() -> str | None:
    """Path of the program, beside this Python's own programs or on the PATH; None where it is not installed."""
    return shutil.which(PROGRAM, path=sysconfig.get_path("scripts")) or shutil.which(PROGRAM)


async def _start(program: str, database: Path, listener: socket.socket) -> Process:
    command = [
        sys.executable,
        "-m",
        "microturn.runtime.telemetry.viewer_cell",
        str(os.getpid()),
        str(listener.fileno()),
        program,
        str(database),
    ]
    return await anyio.open_process(command, pass_fds=[listener.fileno()], start_new_session=True)


async def _await_ready(process: Process) -> None:
    assert process.stdout is not None
    said = b""
    with anyio.move_on_after(START_LIMIT_S):
        async for chunk in process.stdout:
            said += chunk
            if b"ready\n" in said:
                return
    complaint = await _complaint(process)
    if process.returncode == REFUSED:
        raise ViewerRefusedError(
            f"the system refuses the viewer a network of its own ({complaint}), without which every machine around "
            "could read them"
        )
    raise UnavailableError(f"the trace viewer did not start: {complaint}")


async def _complaint(process: Process) -> str:
    """Its last line on standard error."""
    assert process.stderr is not None
    said = b""
    with anyio.move_on_after(1.0):
        async for chunk in process.stderr:
            said += chunk
        await process.wait()
    lines = said.decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), f"it was silent for {START_LIMIT_S:g} s")
