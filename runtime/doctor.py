"""Looks at this machine and says what works, what is missing, and the command that mends it.

What `microturn talk --input FILE` needs and does not find is an error; all else is a note. Nothing is downloaded, started
or written, and nothing heavy is loaded but for the native model, where the package has its weights.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import numpy as np
from anyio import to_thread
from rich.console import Console
from rich.table import Table
from rich.text import Text

from microturn.background_agent.engine_choice import (
    LARGE_MODEL,
    SMALL_MODEL,
    choose_agents,
    describe,
    free_memory_bytes,
)
from microturn.interaction_model import InteractionModel, SessionConfig
from microturn.protocols import INPUT_SAMPLES, MicroturnError, MicroTurnInput
from microturn.runtime.audio_device import device_names
from microturn.runtime.bus.address import address_of
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.embedded_server import default_data_dir, find_binary
from microturn.runtime.bus.server_check import check_server
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.interaction_models import NEEDED_WEIGHTS, load_native_model
from microturn.tools.isolation.sandbox import sandbox_refusal, working_sandbox
from microturn.weights import WEIGHTS, WeightMissingError, cache_directory, locate

OLDEST_PYTHON: Final = (3, 11)
_NOT_FOR_RECORDINGS: Final = frozenset({"matplotlib", "miniaudio"})
"""Packages of the extra `speech` without which a recording can still be talked to."""
NEEDED_MEMORY_BYTES: Final = 1_000_000_000
"""Free memory for the cascade and the runtime, without a local language model."""
NEEDED_CORES: Final = 2
_TIMEOUT_S = 5.0
_STEPS = 5
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?P<spec>[^;]*);.*extra == ['\"](?P<extra>[\w-]+)['\"]")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    """What mends it; empty where all is well."""
    needed: bool = False
    """Whether `microturn talk --input FILE` cannot do without it."""

    @property
    def is_error(self) -> bool:
        """Whether it must be mended first."""
        return self.needed and not self.ok


async def examine(*, redis_url: str | None = None, model_url: str | None = None) -> list[Finding]:
    """Look at everything; takes some seconds, longer where a new weight file must be compared with its hash.

    Args:
        redis_url: the server that is to be used; None for the built-in one.
        model_url: the endpoint of the reasoning model; None for a local model.
    """
    findings = [python_version(sys.version_info[:2]), _platform()]
    findings += packages(metadata.requires("microturn") or [], _installed_version)
    findings += await to_thread.run_sync(_all_weights, model_url is None)
    findings.append(await to_thread.run_sync(native_model))
    findings.append(await redis_server(redis_url) if redis_url else built_in_server())
    if model_url:
        findings.append(await model_endpoint(model_url, os.environ.get("MICROTURN_MODEL_KEY")))
    findings.append(await to_thread.run_sync(agents, _with_model(os.environ, model_url)))
    findings.append(await to_thread.run_sync(sandbox))
    findings.append(await to_thread.run_sync(sound_devices))
    findings.append(memory(free_memory_bytes()))
    findings.append(cores(available_cores()))
    findings.append(folder("weights folder", cache_directory()))
    findings.append(folder("state folder", default_data_dir()))
    return findings


def report(console: Console, findings: list[Finding]) -> int:
    """Print a table and what is to be done; return the exit status: 1 where something needed is missing."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark = (
            Text("ok", "green")
            if finding.ok
            else Text("missing", "bold red" if finding.is_error else "yellow")
        )
        table.add_row(mark, Text(finding.name), Text(finding.detail, "dim"))
    console.print(table)
    errors = [finding for finding in findings if finding.is_error]
    for title, chosen in (
        ("To be mended before `microturn talk --input FILE` works:", errors),
        ("Works without, and better with:", [f for f in findings if not f.ok and not f.needed]),
    ):
        remedies = list(dict.fromkeys(finding.remedy for finding in chosen if finding.remedy))
        if remedies:
            console.print(Text(f"\n{title}", "bold"))
            for remedy in remedies:
                console.print(Text(f"  {remedy}"), soft_wrap=True)
    if not errors:
        console.print(Text("\nReady: `microturn talk --input FILE` has all that it needs.", "green"))
    return 1 if errors else 0


def python_version(version: tuple[int, ...]) -> Finding:
    """Whether this Python is new enough."""
    text = ".".join(map(str, version))
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Finding(
        "Python",
        version >= OLDEST_PYTHON,
        f"{text} ({platform.python_implementation()})",
        "" if version >= OLDEST_PYTHON else f"Install Python {oldest} or later; this one is {text}.",
        needed=True,
    )


def packages(requirements: list[str], installed: Callable[[str], str | None]) -> Iterator[Finding]:
    """Every package of every extra but `dev`, by its metadata alone.

    Args:
        requirements: as `importlib.metadata.requires` gives them.
        installed: gives the version of a package, or None.
    """
    for requirement in requirements:
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None or match["extra"] == "dev":
            continue
        name, wanted, extra = match["name"], match["spec"].strip(), match["extra"]
        version = installed(name)
        ok = version is not None and satisfies(version, wanted)
        have = "not installed" if version is None else version if ok else f"{version}, expected {wanted}"
        yield Finding(
            f"package {name}",
            ok,
            f"{have} (extra {extra})",
            "" if ok else f"pip install 'microturn[{extra}]'",
            needed=extra == "speech" and name not in _NOT_FOR_RECORDINGS,
        )


def satisfies(version: str, wanted: str) -> bool:
    """Whether a version is what a requirement asks for; of its clauses `==` and `>=` are judged."""
    for clause in filter(None, (part.strip() for part in wanted.split(","))):
        if clause.startswith("==") and version != clause[2:].strip():
            return False
        if clause.startswith(">=") and _numbers(version) < _numbers(clause[2:]):
            return False
    return True


def weight(name: str, *, needed: bool) -> Finding:
    """Whether a weight file is here and is the pinned one. Blocks while a new file is hashed."""
    size = f"{WEIGHTS[name].size_bytes / 1e6:.1f} MB"
    try:
        locate(name)
    except WeightMissingError:
        remedy = f"microturn weights fetch {'speech' if name in NEEDED_WEIGHTS else name}"
        return Finding(f"weights {name}", False, f"not here ({size})", remedy, needed)
    except MicroturnError as error:
        return Finding(f"weights {name}", False, "wrong file", str(error), needed)
    return Finding(f"weights {name}", True, size, needed=needed)


def native_model(load: Callable[[], InteractionModel] = load_native_model) -> Finding:
    """Whether the native model can be talked to, and how long it takes for a silent step. Blocks for some seconds."""
    try:
        model = load()
    except MicroturnError as error:
        return Finding("native model", False, "cannot be loaded", f"{error}.")
    try:
        detail = f"a step takes {_step_ms(model):.0f} ms of its 200"
        return Finding("native model", True, f"{detail} ({model.fingerprint})")
    finally:
        model.close()


def _step_ms(model: InteractionModel) -> float:
    """The time for a step in which nobody speaks, the middle one of a few."""
    session, silence, took = model.open(SessionConfig("doctor")), np.zeros(INPUT_SAMPLES, np.float32), []
    for index in range(_STEPS):
        began = time.perf_counter()
        model.step([(session, MicroTurnInput(index, silence))])
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


def built_in_server() -> Finding:
    """Whether there is a program for the built-in Redis server."""
    try:
        return Finding("built-in Redis server", True, str(find_binary()), needed=True)
    except MicroturnError as error:
        return Finding("built-in Redis server", False, "no program", str(error), needed=True)


async def redis_server(url: str) -> Finding:
    """Whether the server at a URL answers and keeps what it is given."""
    try:
        async with open_clients(BusSettings(url, command_timeout_s=2.0)) as clients:
            await check_server(clients.commands, url)
    except MicroturnError as error:
        return Finding("Redis server", False, "cannot be used", str(error), needed=True)
    return Finding("Redis server", True, address_of(url), needed=True)


async def model_endpoint(
    url: str, key: str | None, transport: httpx.AsyncBaseTransport | None = None
) -> Finding:
    """Whether an OpenAI-compatible endpoint answers. `transport` stands in for the network."""
    where = _without_login(url)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, transport=transport) as client:
            response = await client.get(f"{url.rstrip('/')}/models", headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        remedy = f"Start the model server at {where}, or correct MICROTURN_MODEL_URL."
        return Finding("model endpoint", False, f"{where}: {type(error).__name__}", remedy)
    if response.status_code in (401, 403):
        remedy = "Set MICROTURN_MODEL_KEY to a key that the model endpoint accepts."
        return Finding("model endpoint", False, f"{where}: status {response.status_code}", remedy)
    # Not every server lists its models, but one that answers at all is there.
    ok = response.status_code < 500
    remedy = "" if ok else f"See the log of the model server at {where}."
    return Finding("model endpoint", ok, f"{where}: status {response.status_code}", remedy)


def sound_devices() -> Finding:
    """Whether there are a microphone and a loudspeaker. Blocks for some milliseconds."""
    remedy = "Connect a headset to talk live; `--input FILE` and `--text` work without."
    try:
        names = device_names()
    except MicroturnError as error:
        return Finding("sound devices", False, "none", f"{remedy} ({error})")
    ok = bool(names.microphones and names.speakers)
    detail = f"{len(names.microphones)} microphones, {len(names.speakers)} loudspeakers"
    return Finding("sound devices", ok, detail, "" if ok else remedy)


def agents(environment: Mapping[str, str]) -> Finding:
    """The agents that would be opened, each with its model and its engine."""
    try:
        chosen = [f"{name}: {describe(one)}" for name, one in choose_agents(environment).items()]
    except MicroturnError as error:
        return Finding("agents", False, "none can be opened", f"{error}.")
    return Finding("agents", True, "; ".join(chosen))


def sandbox() -> Finding:
    """Look for a sandbox in which tools that ask for one are run."""
    found, refusal = working_sandbox(), sandbox_refusal()
    return Finding("sandbox", found is not None, found or "none", f"{refusal}." if refusal else "")


def _with_model(environment: Mapping[str, str], url: str | None) -> dict[str, str]:
    return {**environment, "MICROTURN_MODEL_URL": url or environment.get("MICROTURN_MODEL_URL", "")}


def memory(free_bytes: int) -> Finding:
    """Whether there is memory for the models that hear and speak."""
    ok = free_bytes >= NEEDED_MEMORY_BYTES
    remedy = "" if ok else f"Free some memory: {NEEDED_MEMORY_BYTES / 1e9:.0f} GB are wanted."
    return Finding("free memory", ok, f"{free_bytes / 1e9:.1f} GB", remedy)


def cores(count: int) -> Finding:
    """Whether the beat and the models can run at the same time."""
    ok = count >= NEEDED_CORES
    remedy = "" if ok else "Give it two processor cores; with fewer, steps come late."
    return Finding("processor cores", ok, str(count), remedy)


def available_cores() -> int:
    """Cores that this process may use, which in a container are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def folder(name: str, path: Path) -> Finding:
    """Whether a folder can be written, or made where it is not there yet."""
    there = next(each for each in (path, *path.parents) if each.exists())
    ok = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    remedy = (
        ""
        if ok
        else f"Make {str(there)!r} writable, or set MICROTURN_CACHE and XDG_STATE_HOME to other places."
    )
    detail = str(path)
    if ok:
        detail += f" ({shutil.disk_usage(there).free / 1e9:.0f} GB free)"
    return Finding(name, ok, detail, remedy, needed=True)


def _platform() -> Finding:
    ok = platform.system() in ("Linux", "Darwin")
    remedy = "" if ok else "Use Linux or macOS; on Windows, the Windows Subsystem for Linux."
    return Finding("platform", ok, f"{platform.system()} {platform.machine()}", remedy)


def _all_weights(local_model: bool) -> list[Finding]:
    findings = [weight(name, needed=True) for name in NEEDED_WEIGHTS]
    if local_model:
        findings += [weight(name, needed=False) for name in (LARGE_MODEL, SMALL_MODEL)]
    return findings


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _without_login(url: str) -> str:
    """The URL without user name, password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
