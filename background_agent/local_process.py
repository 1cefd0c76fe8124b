"""Starts the local model in a child process and ends it; the parent's half of `local_model`.

Knows nothing of what is asked of the model.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from microturn.background_agent._errors import LocalModelError
from microturn.background_agent.chat_client import Address
from microturn.background_agent.parent_watch import end_child
from microturn.background_agent.profile import DEFAULT_CONTEXT_TOKENS

START_LIMIT_S = 120.0
"""Longest wait for a model to load: a cold disk and a busy machine."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """What a child says when it is ready."""

    address: Address
    model: str
    pid: int


class LocalModel:
    """A local model server and the process that it is; made by `local_model`."""

    def __init__(self, command: Sequence[str], model: Path, start_limit_s: float) -> None:
        self._command = command
        self._path = model
        self._start_limit_s = start_limit_s
        self._starting = anyio.Lock()
        self._process: Process | None = None
        self._ready: _Ready | None = None

    @property
    def address(self) -> Address:
        """Where the server is; another place after it was started again."""
        return self._present().address

    @property
    def model(self) -> str:
        """The name of the model."""
        return self._present().model

    @property
    def pid(self) -> int:
        """The process that serves it."""
        return self._present().pid

    async def revive(self) -> Address:
        """Start the server, again if it has ended; returns where it is.

        Raises:
            LocalModelError: it did not start; the text says why.
        """
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                await self.stop()
                self._process = await anyio.open_process(
                    self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
                )
                self._ready = await _ready(self._process, self._path, self._start_limit_s)
        return self.address

    async def stop(self) -> None:
        """End the server, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            await end_child(process)

    def _present(self) -> _Ready:
        if self._ready is None:
            raise LocalModelError(f"the local model {self._path.name} has not been started")
        return self._ready


@asynccontextmanager
async def local_model(
    model: Path,
    *,
    context_tokens: int = DEFAULT_CONTEXT_TOKENS,
    threads: int = 1,
    state_dir: Path | None = None,
    start_limit_s: float = START_LIMIT_S,
) -> AsyncIterator[LocalModel]:
    """Serve a GGUF file for as long as the block runs; the child dies with this process in any case.

    With a `state_dir` it keeps states of prompts there when asked; see `PrefixCache`. On Linux the child also dies
    with the thread that entered the block, which should be one that lasts.

    Raises:
        LocalModelError: it did not start; the text says why.
    """
    _require_file(model)
    command = [sys.executable, "-m", "microturn.background_agent.local_model", "--model", str(model)]
    command += [
        "--context-tokens",
        str(context_tokens),
        "--threads",
        str(threads),
        "--parent",
        str(os.getpid()),
    ]
    if state_dir is not None:
        command += ["--state-dir", str(state_dir)]
    served = LocalModel(command, model, start_limit_s)
    try:
        await served.revive()
        yield served
    finally:
        await served.stop()


def _require_file(model: Path) -> None:
    """Say that a file is missing here, without the second that a child takes to say it."""
    if not model.is_file():
        raise LocalModelError(f"there is no model file at {str(model)!r}; give the path of a GGUF file")


async def _ready(process: Process, model: Path, limit_s: float) -> _Ready:
    """Read the line in which the child says that it is ready, or why not."""
    with anyio.move_on_after(limit_s if math.isfinite(limit_s) else None):
        line = await _first_line(process)
        try:
            said = json.loads(line)
        except ValueError:
            status = await process.wait()
            raise LocalModelError(
                f"the local model {model.name} ended with status {status} before it was ready; run "
                f"`python -m microturn.background_agent.local_model --model {model}` to see why"
            ) from None
        if "error" in said:
            raise LocalModelError(said["error"])
        return _Ready(Address(said["url"], said["key"]), said["model"], said["pid"])
    raise LocalModelError(
        f"the local model {model.name} was not ready after {limit_s:g} s; "
        "a smaller model, a quicker disk or a longer limit may help"
    )


async def _first_line(process: Process) -> str:
    """The first line of the child's output; empty where it ended without one."""
    if process.stdout is None:
        raise LocalModelError("the local model was started without a pipe to read its address from")
    text = ""
    async for chunk in TextReceiveStream(process.stdout):
        text += chunk
        if "\n" in text:
            return text.partition("\n")[0]
    return ""
