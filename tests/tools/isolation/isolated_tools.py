"""Tools that run outside of the process in the tests: good ones, and ones that try to break out or to break it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import httpx

from microturn.protocols import Speech
from microturn.tools import Spoken, ToolContext, ToolFailed, ToolRetry, tool
from microturn.tools.egress import guarded_client

TIMEOUT_S = 0.7


@tool(isolation="subprocess")
async def nothing() -> str:
    """Do nothing."""
    return "nothing"


@tool(isolation="sandbox")
async def nothing_boxed() -> str:
    """Do nothing in a sandbox."""
    return "nothing"


@tool(isolation="subprocess")
async def process_number(text: str = "") -> Spoken:
    """Tell which process this is."""
    return Spoken(str(os.getpid()), f"It is {text}.")


@tool(isolation="subprocess", timeout_s=5)
async def misbehave(how: str) -> str:
    """Raise, print or end in some way."""
    os.write(1, b"this must not reach the pipe")
    if how == "retry":
        raise ToolRetry("give another")
    if how == "failed":
        raise ToolFailed("the shop is closed")
    if how == "crash":
        os._exit(3)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        sys.exit(4)
    if how == "raise":
        raise ValueError("a secret")
    if how == "forge":
        for number in range(3, 10):
            with contextlib.suppress(OSError):
                os.write(number, b"\xff\xff\xff\xff not a message")
        await anyio.sleep_forever()
    return how


@tool(isolation="subprocess")
async def report(context: ToolContext) -> str:
    """Use all that a context offers."""
    await context.progress("half\x07 way")
    await context.say(Speech(text="A word.", mode="idle"))
    answer = await context.ask("Which one?", timeout_s=5)
    return f"{answer} {context.package.intent} {context.idempotency_key} {context.data_dir.name}"


@tool(isolation="subprocess", timeout_s=TIMEOUT_S)
async def wait_for_ever(note: str) -> str:
    """Wait, and note when it is cancelled."""
    try:
        await anyio.sleep_forever()
    finally:
        Path(note).write_text(str(time.monotonic()))
    return ""


@tool(isolation="subprocess", timeout_s=20)
async def report_without_end(context: ToolContext) -> str:
    """Report as fast as possible."""
    while True:
        await context.progress("more")


@tool(isolation="subprocess", permissions=("processes",))
async def run_echo() -> str:
    """Run a program."""
    return _run_a_program()


@tool(isolation="sandbox", egress=("example.org",), timeout_s=10)
async def fetch_boxed(url: str, way: str = "guarded") -> str:
    """Fetch a page from inside a sandbox."""
    if way == "guarded":
        client = guarded_client(("example.org",), timeout_s=3)
    else:
        client = httpx.AsyncClient(trust_env=way == "proxy", timeout=3)
    async with client:
        try:
            return (await client.get(url)).text
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}"


# What follows tries to do harm, once in each tier.


@tool(isolation="subprocess", timeout_s=TIMEOUT_S)
async def harm(how: str) -> str:
    """Try to do harm from a child process."""
    return str(_HARMS[how]())


@tool(isolation="sandbox", timeout_s=TIMEOUT_S)
async def harm_boxed(how: str) -> str:
    """Try to do harm from a sandbox."""
    return str(_HARMS[how]())


@tool(isolation="sandbox")
async def look_around_boxed(attempts: list[tuple[str, str]]) -> list[str]:
    """Try several things in one sandbox, and tell what came of each."""
    outcomes = []
    for how, what in attempts:
        try:
            outcomes.append(str(_HARMS[how](what) if what else _HARMS[how]()))
        except OSError as error:
            outcomes.append(f"refused: {type(error).__name__}")
    return outcomes


def _spin() -> None:
    while True:
        pass


def _spin_in_threads() -> None:
    for _ in range(4):
        threading.Thread(target=_spin, daemon=True).start()
    _spin()


def _take_memory() -> int:
    return len(bytearray(2 * 1024**3))


def _fork_bomb() -> str:
    started = 0
    for _ in range(300):
        try:
            if os.fork() == 0:
                time.sleep(30)
                os._exit(0)
            started += 1
        except OSError:
            pass
    return f"started {started}"


def _run_a_program() -> str:
    return subprocess.run(["/bin/echo", "ran"], capture_output=True, text=True, check=True).stdout


def _flood() -> str:
    return "x" * 100_000_000


def _fill_the_disk() -> str:
    folder = Path("/tmp") / f"microturn-test-{os.getpid()}"
    try:
        with folder.open("wb") as file:
            for _ in range(200):
                file.write(bytes(1024**2))
    finally:
        folder.unlink(missing_ok=True)
    return "written"


def _read(path: str) -> str:
    return Path(path).read_text(errors="replace")[:200]


def _list(path: str) -> str:
    return " ".join(os.listdir(path))


def _write(path: str) -> str:
    Path(path).write_text("was here")
    return "written"


def _environment() -> str:
    return " ".join(sorted(os.environ))


def _connect(address: str) -> str:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=1) as connected:
        return f"connected to {connected.getpeername()}"


def _connect_file(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as connected:
        connected.connect(path)
        return "connected"


def _kill(number: str) -> str:
    os.kill(int(number), 0)
    return "killed"


def _trace(number: str) -> str:
    if ctypes.CDLL(None, use_errno=True).ptrace(16, int(number), 0, 0) == 0:
        return "traced"
    raise OSError(ctypes.get_errno(), "refused")


_HARMS: dict[str, Callable[..., object]] = {
    "spin": _spin,
    "spin in threads": _spin_in_threads,
    "memory": _take_memory,
    "fork bomb": _fork_bomb,
    "program": _run_a_program,
    "flood": _flood,
    "disk": _fill_the_disk,
    "read": _read,
    "list": _list,
    "write": _write,
    "environment": _environment,
    "connect": _connect,
    "connect file": _connect_file,
    "kill": _kill,
    "trace": _trace,
}
