"""Finds the tool plugins that are installed, and loads them apart from each other.

A plugin is an entry point of the group `microturn.tools`: a tool, or an iterable of tools. Knows nothing of
registries: whoever loads decides what becomes of the tools.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points

from microturn.protocols import UserError
from microturn.tools.decorator import AnyTool, Tool

ENTRY_POINT_GROUP = "microturn.tools"
ALLOW_LIST = "MICROTURN_PLUGINS"
"""Environment variable with the names of the plugins that may be loaded, separated by commas; empty allows all."""
LOAD_LIMIT_S = 20.0
"""Longest wait for a plugin's import; our choice, ten times what a large package takes from a cold disk."""
OWN_DISTRIBUTION = "microturn"


class PluginError(UserError):
    """A plugin could not be loaded; the text is for operators and names the reason."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point, known from the package's metadata alone: finding it imports nothing."""

    point: EntryPoint = field(repr=False)

    @property
    def name(self) -> str:
        """The name of the entry point."""
        return self.point.name

    @property
    def value(self) -> str:
        """Where the tools are: `module:attribute`."""
        return self.point.value

    @property
    def package(self) -> str:
        """The installed package that brings it; empty where that is not known."""
        return self.point.dist.name if self.point.dist is not None else ""

    @property
    def version(self) -> str:
        """The version of that package; empty where that is not known."""
        return self.point.dist.version if self.point.dist is not None else ""

    def load(self, limit_s: float = LOAD_LIMIT_S) -> tuple[AnyTool, ...]:
        """Import it and return its tools. Blocks for at most `limit_s`.

        An import cannot be stopped: one that hangs goes on in a thread of its own, and holds only its own module.

        Raises:
            PluginError: it cannot be imported, takes too long, or what it names is no tool.
        """
        try:
            return (
                _tools_of(self.point)
                if self.package == OWN_DISTRIBUTION
                else _load_within(self.point, limit_s)
            )
        except PluginError:
            raise
        except (Exception, SystemExit) as error:  # a plugin's import must not stop the start
            raise PluginError(f"{type(error).__name__}: {error}") from error


def find_plugins(group: str = ENTRY_POINT_GROUP, allowed: Collection[str] | None = None) -> list[Plugin]:
    """Return the installed plugins without importing them: microturn's own first, the others by name.

    Args:
        group: The entry point group.
        allowed: Names of those that are wanted; without it all of them.
    """
    found = (Plugin(point) for point in entry_points(group=group))
    wanted = [plugin for plugin in found if allowed is None or plugin.name in allowed]
    return sorted(wanted, key=lambda plugin: (plugin.package != OWN_DISTRIBUTION, plugin.name))


def allowed_plugins(environ: Mapping[str, str] = os.environ) -> tuple[str, ...] | None:
    """Return the names that the process's allow-list has, in its order; None where every plugin is allowed."""
    names = [name.strip() for name in environ.get(ALLOW_LIST, "").split(",")]
    return tuple(name for name in names if name) or None


def _tools_of(point: EntryPoint) -> tuple[AnyTool, ...]:
    loaded = point.load()
    tools = (loaded,) if isinstance(loaded, Tool) else tuple(loaded)
    for each in tools:
        if not isinstance(each, Tool):
            raise PluginError(
                f"{point.value} holds a {type(each).__name__}; decorate the async function with `@tool`"
            )
    return tools


def _load_within(point: EntryPoint, limit_s: float) -> tuple[AnyTool, ...]:
    """Import in a thread, so that an import that never ends is left behind."""
    outcome: Future[tuple[AnyTool, ...]] = Future()

    def load() -> None:
        try:
            outcome.set_result(_tools_of(point))
        except BaseException as error:  # noqa: BLE001  # the thread's boundary: the caller raises it
            outcome.set_exception(error)

    threading.Thread(target=load, name=f"import of plugin {point.name}", daemon=True).start()
    try:
        return outcome.result(limit_s)
    except TimeoutError:
        if outcome.done():  # the plugin itself raised it
            raise
        raise PluginError(
            f"importing {point.value} did not end within {limit_s:g} s; move what takes so long into the tool"
        ) from None
