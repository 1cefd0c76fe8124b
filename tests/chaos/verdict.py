"""The judgement over a chaos run: what the users heard against what they were promised.

lost          an accepted delegation with a piece that was neither heard to its last word nor given up by rule
              (superseded, expired, dropped, declined), and of whose failure nothing was heard
spoken_twice  words heard again, but for those that an announced rest looks back over
out_of_order  pieces begun after a later piece of the same delegation
over_user     words begun over the user's speech a micro-turn after it was to be heard, when it must have stopped what
              was said; nothing may interrupt here
promises_open promises that nobody has closed in the end
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from microturn.protocols import TERMINAL, Promise, SessionLedger
from tests.chaos.jobs import PARTS, job_of, text_of
from tests.chaos.record import Record

GIVEN_UP = frozenset({"superseded", "expired", "dropped"})


@dataclass(slots=True)
class Verdict:
    """What came out; only `delegations` may be other than 0."""

    delegations: int = 0
    lost: int = 0
    spoken_twice: int = 0
    out_of_order: int = 0
    over_user: int = 0
    promises_open: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not any((self.lost, self.spoken_twice, self.out_of_order, self.over_user, self.promises_open))

    def as_json(self) -> str:
        """One line for programs."""
        return json.dumps(asdict(self))


def judge(
    session: Iterable[tuple[Record, SessionLedger]], over_user_words: int
) -> tuple[Verdict, Counter[str]]:
    """Judge all sessions. Also returns how many pieces had which fate; what was broken is added to the records."""
    verdict, fates = Verdict(over_user=over_user_words), Counter[str]()
    for record, ledger in session:
        verdict.spoken_twice += record.spoken_twice
        verdict.out_of_order += record.out_of_order
        for promise in ledger.promises:
            verdict.delegations += 1
            verdict.promises_open += promise.state == "open"
            found = [_fate(record, promise, part) for part in range(PARTS)]
            fates.update(found)
            verdict.lost += "lost" in found
            if "lost" in found or promise.state == "open":
                record.breaches.append(f"{found}: {_account(promise)}, told {promise.task_id in record.told}")
    return verdict, fates


def _fate(record: Record, promise: Promise, part: int) -> str:
    job = job_of(promise.intent)
    assert job is not None
    if record.is_whole(job, part):
        return "heard"
    text = text_of(job, part)
    event = next((e for e in promise.events if e.speech is not None and e.speech.text == text), None)
    receipt = next((r for r in promise.receipts if event is not None and r.seq == event.seq), None)
    if receipt is not None and receipt.state in GIVEN_UP:
        return receipt.state
    if promise.state == "declined":
        return "declined"
    ended_without = event is None and promise.task_state in TERMINAL and promise.task_state != "final"
    return "failure told" if ended_without and promise.task_id in record.told else "lost"


def _account(promise: Promise) -> str:
    """What the ledger holds of a promise, without its words."""
    events = [f"{event.seq} {event.kind}/{event.attempt}" for event in promise.events]
    receipts = [f"{r.seq} {r.state} {r.words_heard}/{r.words_total}" for r in promise.receipts]
    return f"{promise.intent}, {promise.state}, {promise.task_state}, events {events}, receipts {receipts}"
