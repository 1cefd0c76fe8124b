"""The streams of tasks that one command can name: all of a server's, or those of one shard of a cluster.

Reads them for one worker, and knows whether they can be reached. Knows streams and leases; nothing of packages.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import anyio
from redis.exceptions import ResponseError

from microturn.runtime.bus.connection import LONGEST_READ_S, Clients
from microturn.runtime.bus.keys import GROUP
from microturn.runtime.bus.patience import Backoff
from microturn.runtime.bus.raw import command, entries_by_stream, fields_of
from microturn.runtime.bus.scripts import ScriptName, Scripts
from microturn.runtime.bus.server_errors import TRANSIENT, is_unstorable, refused
from microturn.runtime.bus.settings import BusSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """One delivery, as it is in the stream."""

    stream: str
    entry: str
    fields: dict[str, str]


class QueueRoute:
    """Some streams: those of one lane before those of the next, and the shards of a lane in turn.

    After a failure only `read` asks the server, and so finds out when it is back; the others return nothing at once,
    so that a shard that is away does not hold up those that are not.
    """

    def __init__(
        self,
        clients: Clients,
        scripts: Scripts,
        settings: BusSettings,
        lanes: Iterable[Sequence[str]],
        *,
        worker_id: str,
        enter: Callable[[], Awaitable[None]],
    ) -> None:
        """`lanes` are the streams of each lane, the most urgent first; `enter` makes the groups that are missing."""
        self._clients = clients
        self._scripts = scripts
        self._settings = settings
        self._lanes = [deque(streams) for streams in lanes]
        self._worker_id = worker_id
        self._enter = enter
        self._backoff = Backoff()
        self._is_away = False
        self._sweep_at_s = 0.0

    @property
    def sweep_in_s(self) -> float:
        """Time until it is worth while to sweep again."""
        if self._is_away:
            return self._settings.lease_s
        return max(0.0, self._sweep_at_s - time.monotonic())

    async def sweep(self) -> Found | None:
        """Take over a task whose worker is silent, if it is time to look for one.

        Raises:
            BusReplyError: the server refused for a reason that repeating cannot mend. So do the others.
        """
        if self._is_away or self.sweep_in_s > 0:
            return None
        # Between a twentieth and an eighth of the lease, so that many workers do not look at the same moment.
        self._sweep_at_s = time.monotonic() + self._settings.lease_s * random.uniform(0.05, 0.125)
        return await self._run("sweep", self._settings.lease_ms)

    async def take(self) -> Found | None:
        """Take a new task, if there is any."""
        return None if self._is_away else await self._run("take")

    async def read(self) -> list[Found]:
        """Wait for new tasks, for a quarter of a lease at most. There may be one of each stream."""
        wait_s, streams = min(LONGEST_READ_S, self._settings.lease_s / 4), self._in_turn()
        try:
            with anyio.fail_after(wait_s + self._settings.command_timeout_s):
                reply = await command(
                    self._clients.blocking,
                    *("XREADGROUP", "GROUP", GROUP, self._worker_id),
                    *("COUNT", 1, "BLOCK", max(1, round(wait_s * 1000))),
                    *("STREAMS", *streams, *[">"] * len(streams)),
                    key=streams[0],
                )
        except (*TRANSIENT, TimeoutError) as error:
            self._rest(error)
            await anyio.sleep(self._backoff.pause_s())
            return []
        except ResponseError as error:
            await self._mend(error)
            return []
        self._is_away = False
        self._backoff.reset()
        return [
            Found(stream, entry, fields)
            for stream, entries in entries_by_stream(reply)
            for entry, fields in entries
        ]

    async def _run(self, script: ScriptName, *args: int) -> Found | None:
        streams = self._in_turn()
        try:
            with anyio.fail_after(self._settings.command_timeout_s):  # the other routes wait meanwhile
                reply = await self._scripts.run(script, streams, self._worker_id, *args)
        except (*TRANSIENT, TimeoutError) as error:
            self._rest(error)
            return None
        except ResponseError as error:
            await self._mend(error)
            return None
        return Found(streams[int(reply[0]) - 1], reply[1], fields_of(reply[2:])) if reply else None

    def _in_turn(self) -> list[str]:
        """The streams in the order in which they are to be looked at now; another shard is first each time."""
        for lane in self._lanes:
            lane.rotate(-1)
        return [stream for lane in self._lanes for stream in lane]

    def _rest(self, error: Exception) -> None:
        # The others could not renew their leases either: let them do it before taking over from them.
        self._sweep_at_s = time.monotonic() + self._settings.lease_s
        self._is_away = True
        _log.debug("A part of the queue cannot be read (%s).", type(error).__name__)

    async def _mend(self, error: ResponseError) -> None:
        """Do what helps, if anything does, so that the next call may succeed."""
        if is_unstorable(error):
            self._rest(error)
            await anyio.sleep(self._backoff.pause_s())
            return
        # A script's error has the server's own in its text; a stream that was deleted ends the reads of it.
        if "NOGROUP" not in str(error) and not str(error).startswith("UNBLOCKED"):
            raise refused("read the queue", error) from error
        try:
            await self._enter()
        except TRANSIENT as failure:
            self._rest(failure)
