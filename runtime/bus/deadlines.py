"""Sees to it that every task ends, even if no worker ever takes it or the server loses it.

Asks the server about a task whose time is up, and ends it here where there is no answer. Knows the tracks of tasks;
nothing of who works on them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import anyio
from redis.exceptions import RedisError

from microturn.runtime.bus.health import HealthMonitor
from microturn.runtime.bus.inbox import Inbox
from microturn.runtime.bus.outgoing import Outgoing
from microturn.runtime.bus.own_sessions import OwnSessions
from microturn.runtime.bus.tracks import EventBuffer, Track

GRACE_S = 1.0
"""How long after its deadline a task's own terminal event is waited for, before the server is asked, and again after."""
WATCH_EVERY_S = 0.25


class DeadlineWatch:
    """Watches one runtime's tasks. `run` is to be started in the owner's task group."""

    def __init__(
        self,
        inbox: Inbox,
        outgoing: Outgoing,
        sessions: OwnSessions,
        *,
        buffer: EventBuffer,
        health: HealthMonitor,
        clock: Callable[[], float],
    ) -> None:
        self._inbox = inbox
        self._outgoing = outgoing
        self._sessions = sessions
        self._buffer = buffer
        self._health = health
        self._clock = clock

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await anyio.sleep(WATCH_EVERY_S)
            if self._buffer.is_full:  # its terminal event may be waiting to be read
                continue
            for task_id, track in list(self._inbox.tracks.items()):
                if not track.is_ended and not track.is_held and self._clock() >= track.check_at_s:
                    await self._check(task_id, track)

    async def _check(self, task_id: str, track: Track) -> None:
        # While the server is away it cannot be asked. Otherwise it is, however late it is here: this process may have
        # been stopped, and the task may have ended well meanwhile.
        is_long_over = self._clock() >= track.deadline_s + 3 * GRACE_S
        if track.was_checked or (is_long_over and self._health.now.state != "ok"):
            self._inbox.end_here(task_id, "expired", "deadline")
            return
        epoch = self._sessions.epoch(track.session_id)
        with suppress(RedisError):  # it is asked again until the last grace is over
            outcome = await self._outgoing.cancel(track.shard, task_id, "expired", "deadline")
            track.was_checked = outcome != "early"
            track.check_at_s = self._clock() + GRACE_S
            if outcome == "moved":
                self._sessions.lose(track.session_id, epoch + 1)
