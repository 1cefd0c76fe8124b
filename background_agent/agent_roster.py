"""Several agents under names; each delegation is done by the one that it asks for.

Knows nothing of what the agents are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from microturn.background_agent.engine import AgentEngine, Control, Emit
from microturn.background_agent.loop_engine import LoopEngine
from microturn.protocols import ContextPackage
from microturn.tools import ToolRegistry

DEFAULT_AGENT: Final = "default"
"""The agent that does what names no agent, or one that is not there."""

_log = logging.getLogger(__name__)


class AgentRoster:
    """An `AgentEngine` made of others. It owns none of them."""

    def __init__(self, engines: Mapping[str, AgentEngine], *, to_warm: Sequence[LoopEngine] = ()) -> None:
        """Put engines under names.

        Args:
            engines: by name; `default` must be among them.
            to_warm: those of them whose model has to read its fixed prefix before the first task.

        Raises:
            ValueError: there is no default.
        """
        if DEFAULT_AGENT not in engines:
            raise ValueError(f"`engines` must have a {DEFAULT_AGENT!r}, got {sorted(engines)!r}")
        self._engines = dict(engines)
        self._to_warm = tuple(to_warm)
        self._is_missed: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """The names, the default first."""
        return (DEFAULT_AGENT, *sorted(self._engines.keys() - {DEFAULT_AGENT}))

    def get(self, name: str) -> AgentEngine:
        """The engine of that name, or else the default; a name that is missing is logged once."""
        if name not in self._engines and name not in self._is_missed and len(self._is_missed) < 100:
            self._is_missed.add(name)
            _log.warning("there is no agent %.40r; its tasks are done by %r", name, DEFAULT_AGENT)
        return self._engines.get(name, self._engines[DEFAULT_AGENT])

    async def warm_up(self, tools: ToolRegistry) -> None:
        """Have the local models read their fixed prefixes, so that the first task need not wait for it.

        Raises:
            ModelError: a model server failed.
        """
        for engine in self._to_warm:
            await engine.warm_up(tools)

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        """Do the task by the agent that the package names.

        Raises:
            UnavailableError: what that engine raises.
        """
        await self.get(package.agent).run(package, tools, emit, control)
