"""Holds the tools of a process and calls them within their limits.

A call never raises for what a tool does: whatever goes wrong comes back as an error result that the model can
read. Knows nothing of models, agents or how results travel.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread
from pydantic import JsonValue

from microturn.protocols import MicroturnError, ToolSpec, UserError
from microturn.tools._errors import ToolRetry, UnknownToolError
from microturn.tools.artifacts import Artifacts
from microturn.tools.breaker import Breaker
from microturn.tools.context import ToolContext
from microturn.tools.decorator import AnyTool, Tool
from microturn.tools.isolation._errors import ChildBrokenError, ChildDiedError, SandboxUnavailableError
from microturn.tools.isolation.tiers import Tiers
from microturn.tools.isolation.where import where_raised
from microturn.tools.permissions import PermissionMissingError, granted_permissions, require_permissions
from microturn.tools.phrases import Match, PhraseBook
from microturn.tools.plugins import ALLOW_LIST, ENTRY_POINT_GROUP, Plugin, allowed_plugins, find_plugins
from microturn.tools.result import WHOLE_LIMIT_BYTES, ToolResult, Whole, to_result, to_whole
from microturn.tools.slots import NoSlotError, Slots
from microturn.tools.text import cap

_ERROR_LIMIT_BYTES = 2048

_log = logging.getLogger(__name__)


class ToolRegistry:
    """The tools by name, in the order in which they were added.

    Belongs to one event loop at a time; adding tools while calls run is fine. As an async context manager it keeps
    the processes of tools outside the process warm; without it each call of such a tool starts its own.
    """

    def __init__(self, tools: Iterable[AnyTool] = (), *, granted: frozenset[str] | None = None) -> None:
        """Take in tools.

        Args:
            tools: As `add` takes them.
            granted: The permissions that tools may ask for; None is what `MICROTURN_PERMISSIONS` grants.
        """
        self._tools: dict[str, AnyTool] = {}
        self._granted = granted_permissions() if granted is None else granted
        self._slots = Slots()
        self._breakers: dict[str, Breaker] = {}
        self._tiers = Tiers()
        self._phrases = PhraseBook()
        self.broken: dict[str, str] = {}
        """Entry points that were left out, and why. The reasons are for operators."""
        self.left_out: dict[str, str] = {}
        """Single tools of plugins that this machine or this operator does not let run, and what to do about it."""
        for each in tools:
            self.add(each)

    async def __aenter__(self) -> Self:
        """Begin to keep processes warm. They are started by the first call of each tool, or by `warm_up`."""
        await self._tiers.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes."""
        await self._tiers.__aexit__(kind, error, trace)

    @classmethod
    def from_entry_points(cls, group: str = ENTRY_POINT_GROUP) -> ToolRegistry:
        """Make a registry of what the installed packages offer; a broken plugin is recorded in `broken`.

        microturn's own come first, the others by name. A plugin is taken as a whole or not at all, except for tools
        whose permission is not granted or for which no sandbox works: those go to `left_out`. Where
        `MICROTURN_PLUGINS` names plugins, only those are loaded.
        """
        registry = cls()
        allowed = allowed_plugins()
        found = find_plugins(group, allowed)
        for name in set(allowed or ()) - {plugin.name for plugin in found}:
            registry.broken[name] = f"{ALLOW_LIST} names it, but no installed package has such a plugin"
        for plugin in found:
            registry._add_plugin(plugin)
        return registry

    def add(self, added: AnyTool, *, replace: bool = False) -> None:
        """Add a tool.

        Raises:
            UserError: it is not a tool; its name is taken and `replace` is false; its isolation tier does not work
                here, or not for a tool that stands where it does; or, as a `PermissionMissingError`, it asks for a
                permission that is not granted.
        """
        if not isinstance(added, Tool):
            raise UserError(
                f"cannot add a {type(added).__name__} as a tool; decorate the async function with `@tool`"
            )
        spec = added.spec
        if spec.name in self._tools and not replace:
            raise UserError(
                f"there is a tool `{spec.name}` already; give one of them another name, or pass replace=True"
            )
        require_permissions(spec, self._granted)
        if spec.isolation != "in_process":
            self._tiers.add(added)
        self._phrases.add(spec.name, added.phrases)
        self._tools[spec.name] = added
        self._slots.set_limit(spec.name, spec.max_concurrency)
        self._breakers[spec.name] = Breaker()

    def remove(self, name: str) -> None:
        """Take a tool out; calls of it that run go on.

        Raises:
            UnknownToolError: no tool has this name.
        """
        self.get(name)
        del self._tools[name]
        self._phrases.add(name, ())

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

    async def warm_up(self, name: str) -> None:
        """Start a process for a tool ahead of its first call; nothing to do for one in process.

        Raises:
            UnknownToolError: no tool has this name.
            ChildBrokenError: the tool cannot be loaded in a process of its own.
        """
        warmed = self.get(name)
        if warmed.spec.isolation != "in_process":
            await self._tiers.warm_up(warmed)

    async def call(self, name: str, arguments: dict[str, JsonValue], context: ToolContext) -> ToolResult:
        """Check the arguments, run the tool within its limits and make a result of whatever happens.

        A call waits at most `timeout_s` for a free slot and then runs for at most `timeout_s`. A tool in process
        is cancelled at its next await; one that blocks the event loop cannot be stopped. One outside is stopped
        whatever it does. Being cancelled from outside is the one thing that passes through.
        """
        try:
            called = self.get(name)
            keywords = called.arguments.validate(arguments)
        except (UnknownToolError, ToolRetry) as error:
            return _error(str(error), retryable=True)
        breaker = self._breakers[name]
        try:
            async with self._slots.taken(name, context.package.task_id, called.spec.timeout_s):
                if not breaker.begin():
                    return _error(f"`{name}` has failed several times in a row and is left alone for a while")
                if called.spec.isolation == "in_process":
                    return await _finished(called, context, breaker, _in_process(called, keywords, context))
                outside = self._tiers.call(called, arguments, context)
                return await _finished(called, context, breaker, _in_time(outside))
        except NoSlotError:
            return _error(f"`{name}` is busy with other calls; try again later", retryable=True)

    def _add_plugin(self, plugin: Plugin) -> None:
        before = dict(self._tools)
        try:
            for each in plugin.load():
                self._add_or_leave(each)
        except UserError as error:
            self._tools = before
            self.broken[plugin.name] = str(error)
            _log.warning("tool plugin %s (%s) was left out: %s", plugin.name, plugin.value, error)

    def _add_or_leave(self, added: AnyTool) -> None:
        try:
            self.add(added)
        except (PermissionMissingError, SandboxUnavailableError) as error:
            self.left_out[added.spec.name] = str(error)
            _log.warning("%s", error)


async def _in_process(called: AnyTool, keywords: dict[str, object], context: ToolContext) -> Whole | None:
    """Run a call in this process; None where its time was up."""
    with anyio.move_on_after(called.spec.timeout_s) as limit:
        if called.arguments.context_parameter is not None:
            keywords[called.arguments.context_parameter] = context.cleaned(limit)
        return to_whole(await called.function(**keywords))
    return None


async def _in_time(call: Coroutine[object, object, Whole]) -> Whole | None:
    """Run a call outside the process; None where its time was up."""
    try:
        return await call
    except TimeoutError:
        return None


async def _finished(
    called: AnyTool, context: ToolContext, breaker: Breaker, call: Coroutine[object, object, Whole | None]
) -> ToolResult:
    """Wait for a call and make a result of what it gives or raises."""
    spec = called.spec
    try:
        whole = await call
        if whole is None:
            breaker.failed()
            return _error(f"`{spec.name}` gave no result within {spec.timeout_s:g} seconds and was stopped")
        breaker.succeeded()
        return await _fitted(whole, spec, context)
    except (ChildDiedError, ChildBrokenError) as error:
        breaker.failed()
        _log.error("tool %s did not run: %s", spec.name, error)
        return _error(f"`{spec.name}` did not run to its end: {error}")
    except ToolRetry as error:
        breaker.succeeded()
        return _error(str(error), retryable=True)
    except MicroturnError as error:
        breaker.succeeded()
        return _error(str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the boundary of the call: recorded, converted
        breaker.succeeded()
        _log.error("tool %s raised %s at %s", spec.name, type(error).__name__, where_raised(error))
        return _error(f"`{spec.name}` failed with an internal error ({type(error).__name__})")


async def _fitted(whole: Whole, spec: ToolSpec, context: ToolContext) -> ToolResult:
    """Make the result; where its middle has to be left out, keep the whole aside."""
    result = to_result(whole, spec.max_result_bytes)
    if not result.truncated:
        return result
    kept = cap(whole.text, WHOLE_LIMIT_BYTES).text
    try:
        artifact = await anyio.to_thread.run_sync(Artifacts.of(context.data_dir).keep, kept)
    except OSError as error:
        _log.warning("the whole result of tool %s cannot be kept: %s", spec.name, type(error).__name__)
        return result
    return to_result(whole, spec.max_result_bytes, artifact)


def _error(text: str, *, retryable: bool = False) -> ToolResult:
    capped = cap(text, _ERROR_LIMIT_BYTES)
    return ToolResult(capped.text, is_error=True, truncated=capped.truncated, retryable=retryable)
