"""Runs the Lua scripts in which every change of a task's state is made.

A script is one atomic step on the server and safe to repeat, so that a reply that got lost does no harm. Knows
how a script is loaded and called; what it does is told at the head of its file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Literal, TypeAlias, get_args

import anyio
from redis.exceptions import InvalidResponse, NoScriptError, OutOfMemoryError, ResponseError

from microturn.protocols import DelegationEvent
from microturn.runtime.bus.link import Link
from microturn.runtime.bus.patience import until_answered
from microturn.runtime.bus.server_errors import TRANSIENT, StorageError, is_unstorable

ScriptName: TypeAlias = Literal[
    "join",
    "take",
    "hold",
    "release",
    "submit",
    "begin",
    "emit",
    "beat",
    "cancel",
    "update",
    "answer",
    "acknowledge",
    "resume",
    "receipt",
    "promise",
    "adopt",
    "recall",
    "discard",
    "enter_session",
    "reopen_session",
    "leave_session",
    "read_session",
    "sweep",
    "reject",
    "presence",
    "leave",
    "attend",
    "read_queue",
    "read_dead",
    "read_roster",
    "read_status",
]

_NEEDS_ROOM: frozenset[ScriptName] = frozenset({"submit", "update", "emit", "enter_session"})
"""What a server may refuse when its memory is full. All else goes on: it frees memory, or keeps what is owed."""
_GOES_ON_WHEN_FULL = "#!lua flags=allow-oom\n"


def _load() -> dict[ScriptName, tuple[str, str]]:
    """Read each script, put what all share before it, and hash it as the server does."""
    folder = files("microturn.runtime.bus")
    shared = f"local EVENT_VERSION = '{DelegationEvent.VERSION}'\n{(folder / 'task_state.lua').read_text()}"
    loaded: dict[ScriptName, tuple[str, str]] = {}
    for name in get_args(ScriptName):
        flags = "" if name in _NEEDS_ROOM else _GOES_ON_WHEN_FULL
        body = f"{flags}{shared}\n{(folder / f'{name}.lua').read_text()}"
        loaded[name] = (body, hashlib.sha1(body.encode(), usedforsecurity=False).hexdigest())
    return loaded


class Scripts:
    """The scripts, called over one link."""

    _sources = _load()

    def __init__(self, link: Link) -> None:
        self._link = link

    async def run(self, name: ScriptName, keys: Sequence[str], *args: str | int) -> list[str]:
        """Run a script and return its reply, numbers as text. The keys share a hash tag.

        Raises:
            redis.exceptions.RedisError: the server did not answer, or refused.
        """
        try:
            reply = await self._send(name, keys, args)
        except ResponseError as error:
            if is_unstorable(error):
                raise StorageError("the server cannot store what is written") from None
            raise
        if not isinstance(reply, list):
            raise InvalidResponse("a script was answered with something else than its list")
        return [str(item) for item in reply]

    async def _send(self, name: ScriptName, keys: Sequence[str], args: Sequence[str | int]) -> object:
        body, digest = self._sources[name]
        try:
            return await self._link.send("EVALSHA", digest, len(keys), *keys, *args, key=keys[0])
        except NoScriptError:  # the server forgets its scripts when it starts anew
            return await self._link.send("EVAL", body, len(keys), *keys, *args, key=keys[0])

    async def insist(self, name: ScriptName, keys: Sequence[str], *args: str | int) -> list[str]:
        """As `run`, but wait as long as the server is away or out of memory.

        Raises:
            BusReplyError: the server refused for a reason that repeating cannot mend.
        """

        async def ask() -> list[str]:
            # Whoever cancels a call under way would not know whether it was done; it takes a millisecond.
            reply: list[str] = []
            with anyio.CancelScope(shield=True):
                reply = await self.run(name, keys, *args)
            return reply

        return await until_answered(ask, f"{name} a task", (*TRANSIENT, OutOfMemoryError))
