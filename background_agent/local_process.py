"""Starts the local model in a child process and ends it; the parent's half of `local_model`.

Knows nothing of what is asked of the model.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from microturn.background_agent._errors import LocalModelError
from microturn.background_agent.profile import DEFAULT_CONTEXT_TOKENS

START_LIMIT_S = 120.0
"""Longest wait for a model to load: a cold disk and a busy machine."""
_STOP_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A local model that is ready."""

    url: str
    """Base of the OpenAI-compatible interface, ending in `/v1`."""
    key: str
    """For this run and this address only."""
    model: str
    pid: int

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"LocalModel(url={self.url!r}, model={self.model!r}, pid={self.pid})"


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

    With a `state_dir` it keeps states of prompts there when asked; see `PrefixCache`.

    On Linux it also dies with the thread that entered the block, which should be one that lasts.

    Raises:
        LocalModelError: it did not start; the text says why.
    """
    _require_file(model)
    command = [sys.executable, "-m", "microturn.background_agent.local_model"]
    options = [
        "--context-tokens",
        str(context_tokens),
        "--threads",
        str(threads),
        "--parent",
        str(os.getpid()),
    ]
    if state_dir is not None:
        options += ["--state-dir", str(state_dir)]
    process = await anyio.open_process(
        [*command, "--model", str(model), *options],
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        start_new_session=True,
    )
    try:
        yield await _ready(process, model, start_limit_s)
    finally:
        with anyio.CancelScope(shield=True):
            await _stop(process)


def _require_file(model: Path) -> None:
    """Say that a file is missing here, without the second that a child takes to say it."""
    if not model.is_file():
        raise LocalModelError(f"there is no model file at {str(model)!r}; give the path of a GGUF file")


async def _ready(process: Process, model: Path, limit_s: float) -> LocalModel:
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
        return LocalModel(said["url"], said["key"], said["model"], said["pid"])
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


async def _stop(process: Process) -> None:
    """Ask the child to end, and kill it where it does not."""
    if process.returncode is None:
        process.terminate()
        with anyio.move_on_after(_STOP_LIMIT_S):
            await process.wait()
    if process.returncode is None:
        process.kill()
    await process.aclose()
