"""Holds the tools of a process and calls them within their limits.

A call never raises for what a tool does: whatever goes wrong comes back as an error result that the model can
read. Knows nothing of models, agents or how results travel.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

import anyio
from pydantic import JsonValue

from microturn.protocols import MicroturnError, ToolSpec, UserError
from microturn.tools._errors import ToolRetry, UnknownToolError
from microturn.tools.context import ToolContext
from microturn.tools.decorator import AnyTool, Tool
from microturn.tools.phrases import Match, PhraseBook
from microturn.tools.result import ToolResult, to_result
from microturn.tools.text import cap

ENTRY_POINT_GROUP = "microturn.tools"
_ERROR_LIMIT_BYTES = 2048

_log = logging.getLogger(__name__)


class ToolRegistry:
    """The tools by name, in the order in which they were added.

    Belongs to one event loop at a time; adding tools while calls run is fine.
    """

    def __init__(self, tools: Iterable[AnyTool] = ()) -> None:
        self._tools: dict[str, AnyTool] = {}
        self._slots: dict[str, anyio.Semaphore] = {}
        self._phrases = PhraseBook()
        self.broken: dict[str, str] = {}
        """Entry points that were left out, and why. The reasons are for operators."""
        for each in tools:
            self.add(each)

    @classmethod
    def from_entry_points(cls, group: str = ENTRY_POINT_GROUP) -> ToolRegistry:
        """Make a registry of what the installed packages offer; a broken plugin is recorded in `broken`.

        microturn's own come first, the others by name. An entry point is a tool or an iterable of tools, and is
        taken as a whole or not at all.
        """
        registry = cls()
        found = sorted(
            entry_points(group=group), key=lambda point: (_owner(point) != "microturn", point.name)
        )
        for point in found:
            registry._add_plugin(point)
        return registry

    def add(self, added: AnyTool, *, replace: bool = False) -> None:
        """Add a tool.

        Raises:
            UserError: it is not a tool, its name is taken and `replace` is false, or its isolation tier is not
                available.
        """
        if not isinstance(added, Tool):
            raise UserError(
                f"cannot add a {type(added).__name__} as a tool; decorate the async function with `@tool`"
            )
        spec = added.spec
        if spec.isolation != "in_process":
            raise UserError(
                f"tool `{spec.name}` asks for isolation {spec.isolation!r}, which is not available in this version; "
                "use isolation='in_process' if its code and what it is fed are trusted"
            )
        if spec.name in self._tools and not replace:
            raise UserError(
                f"there is a tool `{spec.name}` already; give one of them another name, or pass replace=True"
            )
        self._phrases.add(spec.name, added.phrases)
        self._tools[spec.name] = added
        self._slots[spec.name] = anyio.Semaphore(spec.max_concurrency)

    def get(self, name: str) -> AnyTool:
        """Return a tool.

        Raises:
            UnknownToolError: none has this name; the text has the names that are most like it.
        """
        try:
            return self._tools[name]
        except KeyError:
            raise UnknownToolError(name, self._tools) from None

    def specs(self) -> list[ToolSpec]:
        """Return what an agent is told of each tool, in the order in which they were added."""
        return [each.spec for each in self._tools.values()]

    def matches(self, text: str) -> list[Match]:
        """Return the calls that a text asks for in the words of a tool's phrase; see `phrases`."""
        return [match for match in self._phrases.match(text) if match.tool in self._tools]

    async def call(self, name: str, arguments: dict[str, JsonValue], context: ToolContext) -> ToolResult:
        """Check the arguments, run the tool within its limits and make a result of whatever happens.

        A call waits at most `timeout_s` for a free slot and then runs for at most `timeout_s`. A tool in process
        is cancelled at its next await; one that blocks the event loop cannot be stopped. Being cancelled from
        outside is the one thing that passes through.
        """
        try:
            called = self.get(name)
            keywords = called.arguments.validate(arguments)
        except (UnknownToolError, ToolRetry) as error:
            return _error(str(error), retryable=True)
        if called.arguments.context_parameter is not None:
            keywords[called.arguments.context_parameter] = context.cleaned()
        slot = self._slots[name]
        with anyio.move_on_after(called.spec.timeout_s) as waiting:
            await slot.acquire()
        if waiting.cancelled_caught:
            return _error(f"`{name}` is busy with other calls; try again later", retryable=True)
        try:
            return await _run(called, keywords)
        finally:
            slot.release()

    def _add_plugin(self, point: EntryPoint) -> None:
        before = (dict(self._tools), dict(self._slots))
        try:
            loaded = point.load()
            for each in (loaded,) if isinstance(loaded, Tool) else tuple(loaded):
                self.add(each)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a plugin's import must not stop the start
            self._tools, self._slots = before
            self.broken[point.name] = f"{type(error).__name__}: {error}"
            _log.warning(
                "tool plugin %s (%s) was left out: %s", point.name, point.value, self.broken[point.name]
            )


async def _run(called: AnyTool, keywords: dict[str, object]) -> ToolResult:
    """Run one call under its time limit."""
    spec = called.spec
    with anyio.move_on_after(spec.timeout_s):
        try:
            return to_result(await called.function(**keywords), spec.max_result_bytes)
        except ToolRetry as error:
            return _error(str(error), retryable=True)
        except MicroturnError as error:
            return _error(str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the boundary of the call: recorded, converted
            _log.error("tool %s raised %s at %s", spec.name, type(error).__name__, _where(error))
            return _error(f"`{spec.name}` failed with an internal error ({type(error).__name__})")
    return _error(f"`{spec.name}` gave no result within {spec.timeout_s:g} seconds and was stopped")


def _error(text: str, *, retryable: bool = False) -> ToolResult:
    capped = cap(text, _ERROR_LIMIT_BYTES)
    return ToolResult(capped.text, is_error=True, truncated=capped.truncated, retryable=retryable)


def _where(error: BaseException) -> str:
    """Name the line that raised, without the message, which may hold what a user said."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else ""
