"""How a child process is started: the command, its environment, and what the child gives up by itself."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from microturn.tools.isolation.frames import Frame
from microturn.tools.isolation.limits import ResourceLimits
from microturn.tools.isolation.target import Target

MAY_START_PROCESSES = "processes"
"""The permission with which a tool in a child process may start further ones."""

_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from microturn.tools.isolation.child import main; main()"


@dataclass(frozen=True, slots=True)
class Launch:
    """All that is needed to start a child."""

    command: Sequence[str]
    environment: Mapping[str, str]
    first_message: Frame
    """What the child is to import and to give up."""
    wrapper: Sequence[str] = field(default=())
    """What stands before the command: the program that makes the sandbox."""

    @property
    def line(self) -> list[str]:
        """The whole command line."""
        return [*self.wrapper, *self.command]


def child_command(target: Target) -> tuple[str, ...]:
    """Python in isolated mode, which heeds no variable, no folder of the user and not the current folder."""
    return (sys.executable, "-I", "-c", _BOOT, json.dumps(target.search_path))


def first_message(
    target: Target,
    limits: ResourceLimits,
    *,
    may_start_processes: bool,
    may_open_sockets: bool,
    egress_socket: Path | None = None,
) -> Frame:
    """Tell the child what to import and what to give up."""
    return {
        "kind": "start",
        "module": target.module,
        "name": target.name,
        "places": dict(target.places),
        "limits": {name: getattr(limits, name) for name in ResourceLimits.__slots__},
        "may_start_processes": may_start_processes,
        "may_open_sockets": may_open_sockets,
        "egress_socket": None if egress_socket is None else str(egress_socket),
    }


def subprocess_launch(target: Target, limits: ResourceLimits, permissions: Sequence[str]) -> Launch:
    """A child process with limits, the environment of this one, and the network: for code that is trusted."""
    message = first_message(
        target, limits, may_start_processes=MAY_START_PROCESSES in permissions, may_open_sockets=True
    )
    return Launch(child_command(target), dict(os.environ), message)
