"""Runs the tools of a registry that ask for a process of their own, each in its tier."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup
from pydantic import JsonValue

from microturn.protocols import ToolSpec
from microturn.tools.context import ToolContext
from microturn.tools.decorator import AnyTool
from microturn.tools.egress.addresses import Resolver, resolve
from microturn.tools.egress.hosts import AllowedHosts
from microturn.tools.egress.proxy import EgressProxy
from microturn.tools.isolation.launch import subprocess_launch
from microturn.tools.isolation.limits import ResourceLimits
from microturn.tools.isolation.pool import CALLS_OF_A_CHILD, IDLE_LIMIT_S, Pool
from microturn.tools.isolation.sandbox import SandboxLaunches, require_sandbox
from microturn.tools.isolation.target import Target
from microturn.tools.result import Whole

_LOOK_EVERY_S = 10.0


class Tiers:
    """The child processes of one registry.

    As an async context manager it keeps processes warm; it may be entered once at a time, in the event loop of the
    calls. Outside of it each call has a process of its own.
    """

    def __init__(self, limits: ResourceLimits | None = None, *, resolver: Resolver = resolve) -> None:
        self._limits = limits or ResourceLimits()
        self._resolver = resolver
        self._targets: dict[str, Target] = {}
        self._pools: dict[str, Pool] = {}
        self._retired: list[Pool] = []
        """Pools of tools that were replaced; their processes end with the others."""
        self._launches = SandboxLaunches(self._limits)
        self._stack: AsyncExitStack | None = None
        self._group: TaskGroup | None = None
        self._making = anyio.Lock()

    async def __aenter__(self) -> Self:
        """Begin to keep processes."""
        stack = AsyncExitStack()
        await stack.__aenter__()
        stack.push_async_callback(self._end_all)
        self._group = await stack.enter_async_context(anyio.create_task_group())
        self._group.start_soon(self._end_idle)
        self._stack = stack
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes; one that runs a call ends with it."""
        stack, group = self._stack, self._group
        self._stack = self._group = None
        if stack is not None and group is not None:
            group.cancel_scope.cancel()
            await stack.__aexit__(None, None, None)  # told of an error, the task group would wrap it

    def add(self, isolated: AnyTool) -> None:
        """Take in a tool.

        Raises:
            UserError: a child process could not import it, or (as a `SandboxUnavailableError`) it asks for a sandbox
                and none works here.
        """
        target = Target.of(isolated)
        if isolated.spec.isolation == "sandbox":
            require_sandbox(isolated.spec)
        self._targets[isolated.spec.name] = target
        if isolated.spec.name in self._pools:
            self._retired.append(self._pools.pop(isolated.spec.name))

    async def call(self, isolated: AnyTool, arguments: dict[str, JsonValue], context: ToolContext) -> Whole:
        """Run one call; as `Pool.call`."""
        if self._group is None:
            async with self._for_once() as once:
                return await once.call(isolated, arguments, context)
        return await (await self._pool(isolated)).call(
            arguments, context, isolated.spec.timeout_s, self._group
        )

    async def warm_up(self, isolated: AnyTool) -> None:
        """Have a process for a tool ready before its first call; of use in the context manager only.

        Raises:
            ChildBrokenError: it cannot be started.
        """
        await (await self._pool(isolated)).warm_up()

    def _for_once(self) -> Tiers:
        once = Tiers(self._limits, resolver=self._resolver)
        once._targets = self._targets
        return once

    async def _pool(self, isolated: AnyTool) -> Pool:
        """The pool of a tool; to be called in the context manager."""
        name = isolated.spec.name
        async with self._making:  # so that two calls at once do not make two
            if name not in self._pools:
                make = self._sandboxes if isolated.spec.isolation == "sandbox" else self._warm
                self._pools[name] = await make(isolated)
        return self._pools[name]

    async def _warm(self, isolated: AnyTool) -> Pool:
        spec = isolated.spec
        launch = partial(subprocess_launch, self._targets[spec.name], self._limits, spec.permissions)
        return Pool(launch, calls_of_a_child=CALLS_OF_A_CHILD, spares=0)

    async def _sandboxes(self, isolated: AnyTool) -> Pool:
        """A sandbox serves one call: what one user's task left in it must not be there for the next."""
        spec = isolated.spec
        way_out = await self._way_out(spec) if spec.egress else None
        launch = partial(self._launches.launch, spec, self._targets[spec.name], way_out)
        return Pool(launch, calls_of_a_child=1, spares=1)

    async def _way_out(self, spec: ToolSpec) -> Path:
        """Start the proxy for a tool that reaches hosts, and give its socket file."""
        assert self._stack is not None and self._group is not None
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="microturn-egress-")))
        path = folder / "proxy.sock"
        await EgressProxy(AllowedHosts(spec.egress), resolver=self._resolver).listen(path, self._group)
        return path

    async def _end_idle(self) -> None:
        while True:
            await anyio.sleep(_LOOK_EVERY_S)
            for pool in [*self._pools.values(), *self._retired]:
                await pool.end_idle(IDLE_LIMIT_S)

    async def _end_all(self) -> None:
        with anyio.CancelScope(shield=True):
            for pool in [*self._pools.values(), *self._retired]:
                await pool.close()
        self._pools.clear()
        self._retired.clear()
