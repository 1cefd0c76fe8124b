"""Stores what became of the words that were said, and of the promises that were made.

Receipts come with every micro-turn of speech, so of each piece only the newest one waits. Knows nothing of playout.
"""

from __future__ import annotations

from typing import TypeAlias

from microturn.protocols import PromiseState, Receipt
from microturn.runtime.bus.health import HealthMonitor
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.own_sessions import OwnSessions
from microturn.runtime.bus.pending_writes import PendingWrites
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.settings import BusSettings

_Piece: TypeAlias = tuple[str, str, int]
"""Session, task, and number of the event; PROMISE stands for the task's promise."""
PROMISE = -1


class LedgerWriter:
    """One runtime's entries in the ledgers of its sessions. `run` is to be started in the owner's task group.

    What waits is bounded by the pieces that the sessions have: an outage makes it no longer.
    """

    def __init__(
        self,
        scripts: Scripts,
        keys: Keys,
        settings: BusSettings,
        *,
        runtime_id: str,
        health: HealthMonitor,
        sessions: OwnSessions,
    ) -> None:
        self._scripts = scripts
        self._keys = keys
        self._settings = settings
        self._runtime_id = runtime_id
        self._sessions = sessions
        self._receipts: dict[_Piece, Receipt] = {}
        self._promises: dict[_Piece, PromiseState] = {}
        self._writes = PendingWrites(self._store, health=health)

    def receipt(self, session_id: str, receipt: Receipt) -> None:
        """Store a receipt in place of the piece's earlier one. Never waits, never refuses.

        Nothing of a session that is just being reopened: whoever spoke in it here until now does not have it.
        """
        if self._sessions.is_expected(session_id):
            return
        piece = (session_id, receipt.task_id, receipt.seq)
        before = self._receipts.get(piece)
        self._receipts[piece] = receipt if before is None else before.followed_by(receipt)
        self._writes.put(piece)

    def promise(self, session_id: str, task_id: str, state: PromiseState) -> None:
        """As `receipt`, how a promise has ended; the first end of a promise stays."""
        if self._sessions.is_expected(session_id):
            return
        piece = (session_id, task_id, PROMISE)
        if state != "open" and piece not in self._promises:  # one that has not ended is open anyway
            self._promises[piece] = state
            self._writes.put(piece)

    async def all_stored(self, session_id: str | None = None) -> None:
        """Wait until everything is stored, or everything of one session."""
        await self._writes.all_stored(lambda piece: session_id in (None, piece[0]))

    async def run(self) -> None:
        """Store what waits until cancelled, through outages."""
        await self._writes.run()

    async def _store(self, piece: _Piece) -> bool:
        session_id, _, seq = piece
        epoch = self._sessions.epoch(session_id)
        reply = await (self._store_promise(piece) if seq == PROMISE else self._store_receipt(piece))
        if reply[0] == "moved":
            self._sessions.lose(session_id, epoch + 1)
        return True

    async def _store_receipt(self, piece: _Piece) -> list[str]:
        session_id, task_id, seq = piece
        receipt = self._receipts[piece]
        reply = await self._scripts.run(
            "receipt",
            self._touched(session_id, task_id),
            *(seq, receipt.encode(), self._settings.retention_ms, self._settings.session_retention_ms),
        )
        if self._receipts[piece] is receipt:
            del self._receipts[piece]
        return reply

    async def _store_promise(self, piece: _Piece) -> list[str]:
        session_id, task_id, _ = piece
        reply = await self._scripts.run(
            "promise",
            self._touched(session_id, task_id),
            *(self._promises[piece], self._settings.retention_ms, self._settings.session_retention_ms),
        )
        del self._promises[piece]
        return reply

    def _touched(self, session_id: str, task_id: str) -> list[str]:
        shard = self._keys.shard_of(session_id)
        return [*self._keys.of_task(shard, task_id, self._runtime_id), *self._keys.of_session(session_id)]
