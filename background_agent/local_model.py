"""The local language model: an OpenAI-compatible server in a process of its own.

    python -m microturn.background_agent.local_model --model FILE.gguf

It listens on the loopback interface only, on a free port, and prints one line of JSON with the address and the
key of this run. It is polite: one thread and the lowest priority, so that the live conversation beside it keeps
its beat. With `--parent` it ends with that process, however that one dies. Knows nothing of agents and tools.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from microturn.background_agent._errors import LocalModelError
from microturn.background_agent.parent_watch import die_with_parent
from microturn.background_agent.profile import DEFAULT_CONTEXT_TOKENS

MAX_CONTEXT_TOKENS = 16_384


class ModelServer(Protocol):
    """A running server. It stops when the process ends."""

    listening_address: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input closes, the parent dies, or a signal comes. Returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.parent is not None:
        die_with_parent(options.parent)
    be_polite(options.nice)
    try:
        key = secrets.token_urlsafe(24)
        size = ServerSize(options.context_tokens, options.threads, options.prompt_threads)
        server = start(options.model, size, port=options.port, key=key, state_dir=options.state_dir)
    except LocalModelError as error:
        print(json.dumps({"error": str(error)}), flush=True)  # noqa: T201  # because this line is the interface
        return 1
    ready = {
        "url": f"{server.listening_address}/v1",
        "key": key,
        "model": options.model.name,
        "pid": os.getpid(),
    }
    print(json.dumps(ready), flush=True)  # noqa: T201  # because this line is the interface
    wait_for_the_end(reads_input=options.parent is not None)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m microturn.background_agent.local_model",
        description="Serve a GGUF language model on the loopback interface, OpenAI-compatible, on few resources. "
        "Prints one line of JSON when it is ready: url, key, model, pid; or error.",
        epilog="Send the key as 'Authorization: Bearer KEY'. `microturn weights fetch qwen2.5-coder-1.5b` gets a model.",
    )
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="the GGUF file to serve")
    parser.add_argument(
        "--context-tokens",
        type=_bounded(256, MAX_CONTEXT_TOKENS),
        default=DEFAULT_CONTEXT_TOKENS,
        metavar="N",
        help=f"prompt and answer together, 256 to {MAX_CONTEXT_TOKENS}; more takes more memory "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=_bounded(1, 64),
        default=1,
        metavar="N",
        help="threads that write; with those of the live conversation never more than the cores (default: %(default)s)",
    )
    parser.add_argument(
        "--prompt-threads",
        type=_bounded(1, 64),
        default=2,
        metavar="N",
        help="threads that read prompts, at most the cores (default: %(default)s)",
    )
    parser.add_argument(
        "--nice",
        type=_bounded(0, 19),
        default=19,
        metavar="N",
        help="priority, 19 is last (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=_bounded(0, 65535),
        default=0,
        metavar="N",
        help="0 takes a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where clients may have the state of a prompt kept (default: nowhere)",
    )
    parser.add_argument(
        "--parent",
        type=int,
        metavar="PID",
        help="end when this process dies or closes our standard input",
    )
    return parser


def _bounded(low: int, high: int) -> Callable[[str], int]:
    """An argument type: a whole number from `low` to `high`."""

    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low} to {high}, got {value}")
        return value

    return number


@dataclass(frozen=True, slots=True)
class ServerSize:
    """How much a server may take."""

    context_tokens: int = DEFAULT_CONTEXT_TOKENS
    threads: int = 1
    """Threads that write tokens, one after another for seconds."""
    prompt_threads: int = 2
    """Threads that read a prompt, for a part of a second each time, and for half a minute at a first start."""


def start(model: Path, size: ServerSize, *, port: int, key: str, state_dir: Path | None) -> ModelServer:
    """Load a model and listen. Blocks for seconds.

    Raises:
        LocalModelError: the package or the file is missing, or the file cannot be loaded.
    """
    if not model.is_file():
        raise LocalModelError(
            f"there is no model file at {str(model)!r}; give --model the path of a GGUF file"
        )
    try:
        import xllamacpp
    except ImportError:
        raise LocalModelError(
            "the local model needs the package xllamacpp: pip install 'microturn[local-llm]', "
            "or set MICROTURN_MODEL_URL to an OpenAI-compatible server"
        ) from None
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx = size.context_tokens
    params.n_parallel = 1  # One slot keeps the one fixed prefix; what comes meanwhile waits in the server.
    params.cache_ram_mib = 0  # Its default would keep up to 8 GiB of old prompts.
    params.n_ubatch = (
        128  # Prompts are short; its default reserves four times the room for the vocabulary's scores.
    )
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = size.threads
    params.cpuparams_batch.n_threads = min(size.prompt_threads, os.cpu_count() or 1)
    params.hostnames, params.port, params.api_keys = ["127.0.0.1"], port, [key]
    params.cors_origins = "http://127.0.0.1"  # Its default would let any web page in.
    params.ui = params.endpoint_slots = False
    params.verbosity = 0
    if state_dir is not None:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        params.slot_save_path = f"{state_dir}{os.sep}"
    try:
        server: ModelServer = xllamacpp.Server(params)
    except RuntimeError as error:
        raise LocalModelError(f"{model.name} could not be loaded as a GGUF model: {error}") from error
    return server


def be_polite(nice: int) -> None:
    """Lower the priority of this process to `nice`, where the system has such a thing."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)


def wait_for_the_end(*, reads_input: bool) -> None:
    """Block until a signal comes or, with `reads_input`, until standard input closes."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    if reads_input:
        threading.Thread(target=_read_to_end, args=(ended,), daemon=True).start()
    ended.wait()


def _read_to_end(ended: threading.Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    ended.set()


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(
        status
    )  # The server's own threads may be in the middle of a token; nothing of theirs is worth saving.
