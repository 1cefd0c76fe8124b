"""Which sandbox works on this machine, and how a tool is started in it.

Bubblewrap is asked first: it hides what is not shown. Where it does not work, Landlock forbids the same things
without hiding them.
"""

from __future__ import annotations

from pathlib import Path

from microturn.protocols import ToolSpec
from microturn.tools.isolation import bubblewrap, landlock
from microturn.tools.isolation._errors import SandboxUnavailableError
from microturn.tools.isolation.launch import Launch, child_command, first_message
from microturn.tools.isolation.limits import ResourceLimits
from microturn.tools.isolation.target import Target

_ADVICE = "install one with `pip install 'microturn[sandbox]'`, on a Linux that lets users make namespaces or has Landlock"


def working_sandbox() -> str | None:
    """The sandbox that tools get on this machine, "bubblewrap" or "landlock"; None where neither works."""
    if bubblewrap.refusal() is None:
        return "bubblewrap"
    return "landlock" if landlock.refusal() is None else None


def sandbox_refusal() -> str | None:
    """Why no sandbox works on this machine, in one sentence; None where one does."""
    if working_sandbox() is not None:
        return None
    return f"no sandbox works here: {bubblewrap.refusal()}; {landlock.refusal()}; {_ADVICE}"


def require_sandbox(spec: ToolSpec) -> None:
    """Check that a tool can have the sandbox that it asks for.

    Raises:
        SandboxUnavailableError: it cannot.
    """
    refusal = sandbox_refusal()
    if refusal is not None:
        raise SandboxUnavailableError(f"tool `{spec.name}` runs in a sandbox only, and {refusal}")
    if spec.egress and working_sandbox() != "bubblewrap":
        raise SandboxUnavailableError(
            f"tool `{spec.name}` reaches hosts from inside a sandbox, for which bubblewrap is needed: "
            f"{bubblewrap.refusal()}"
        )


class SandboxLaunches:
    """Makes the commands that start tools in sandboxes."""

    def __init__(self, limits: ResourceLimits) -> None:
        self._limits = limits

    def launch(self, spec: ToolSpec, target: Target, proxy_socket: Path | None = None) -> Launch:
        """How a tool is started in the sandbox of this machine.

        Args:
            spec: The tool's.
            target: Where it is found.
            proxy_socket: The socket file of the proxy through which it reaches its hosts; None is no network.

        Raises:
            SandboxUnavailableError: there is no sandbox any more.
        """
        require_sandbox(spec)
        program = bubblewrap.find()
        inside = None if proxy_socket is None else bubblewrap.PROXY_SOCKET
        message = first_message(
            target,
            self._limits,
            may_start_processes=False,
            may_open_sockets=proxy_socket is not None,
            egress_socket=inside,
        )
        if working_sandbox() == "bubblewrap" and program is not None:
            wrapper = bubblewrap.wrapper(program, target.folders, proxy_socket)
            return Launch(child_command(target), {}, message, wrapper)
        return Launch(child_command(target), {}, message, landlock.wrapper(target.folders))
