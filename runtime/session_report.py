"""What a session's ledger looks like to an operator: each promise, how it stands, and what of it was heard.

What was said is only in `transcript`; the table has none of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from microturn.protocols import DelegationEvent, Promise, Receipt, SessionLedger

SHOWN_ID = 8
"""Characters of a task's id that are shown; enough to tell the tasks of a session apart."""


def table(ledger: SessionLedger, now_ms: int) -> Table:
    """One row for each promise, oldest first, without a word of what was said.

    Args:
        ledger: as the bus has it.
        now_ms: milliseconds since 1970, for the ages.
    """
    grid = Table(title=_title(ledger), title_justify="left")
    for column in ("task", "age", "promise", "state", "corrected"):
        grid.add_column(column, no_wrap=True)
    grid.add_column("pieces: words heard")
    for promise in ledger.promises:
        grid.add_row(
            promise.task_id[:SHOWN_ID],
            _age((now_ms - promise.made_ms) / 1000),
            promise.state,
            promise.task_state,
            f"{promise.revision} x" if promise.revision else "",
            "\n".join(_pieces(promise)),
        )
    return grid


def transcript(ledger: SessionLedger) -> Iterator[str]:
    """Lines with what was asked and what is answered; a bar stands where the user's hearing ends."""
    for promise in ledger.promises:
        yield f"{promise.task_id[:SHOWN_ID]} asked: {promise.intent}"
        receipts = _receipts(promise)
        for event in promise.events:
            if event.speech is None:
                continue
            words = event.speech.text.split()
            receipt = receipts.get(event.seq)
            heard = receipt.words_heard if receipt is not None else 0
            yield f"  {event.seq}: {' '.join([*words[:heard], '|', *words[heard:]])}"


def _title(ledger: SessionLedger) -> str:
    still_open = sum(promise.state == "open" for promise in ledger.promises)
    moves = f", taken over {ledger.epoch} x" if ledger.epoch else ""
    count = len(ledger.promises)
    promises = "1 promise" if count == 1 else f"{count} promises"
    return f"session {ledger.session_id}: {promises}, {still_open} open{moves}"


def _pieces(promise: Promise) -> Iterator[str]:
    receipts = _receipts(promise)
    for event in promise.events:
        if event.speech is not None:
            yield _piece(event, receipts.get(event.seq), len(event.speech.text.split()))


def _piece(event: DelegationEvent, receipt: Receipt | None, words: int) -> str:
    if receipt is None:
        return f"{event.seq} {event.kind} waiting 0/{words}"
    return f"{event.seq} {event.kind} {receipt.state} {receipt.words_heard}/{words}"


def _receipts(promise: Promise) -> dict[int, Receipt]:
    return {receipt.seq: receipt for receipt in promise.receipts}


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
