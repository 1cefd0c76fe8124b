"""What the user has heard of a task: the words that were sent for it, and the receipts of what became of them.

Knows nothing of models, and nothing of when words are said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from microturn.protocols import SETTLED, DelegationEvent, Receipt, Speech
from microturn.tools.text import cap

WAITING_PRIORITY = -1
"""Priority of words that fill a wait; they are said after any that carry a result, and are no answer."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one event that are an answer for now."""

    text: str
    heard: int
    """How many of them the user has heard."""
    is_coming: bool
    """Whether the rest will still be said, without anybody doing anything."""

    @property
    def told(self) -> str:
        """What was heard."""
        return " ".join(self.text.split()[: self.heard])

    @property
    def rest(self) -> str:
        """What was not heard, or not yet."""
        return " ".join(self.text.split()[self.heard :])

    @property
    def counted(self) -> str:
        """What need not be said again: what was heard, and what is coming."""
        return self.text if self.is_coming else self.told


def is_said_now(speech: Speech) -> bool:
    """Whether the words are an answer for now: not a wait, not a reminder for later, not silent."""
    return speech.not_before_ms is None and speech.mode != "silent" and speech.priority != WAITING_PRIORITY


def words_sent(
    emitted: Sequence[DelegationEvent], receipts: Mapping[int, Receipt], revision: int
) -> list[Words]:
    """The words of a task's events, oldest first, and how much of each was heard.

    Args:
        emitted: the events.
        receipts: the newest receipt of each event that has one, by number.
        revision: how often the user has corrected the task; what waits of an older one is not said any more.
    """
    return [
        _words(event.speech, receipts.get(event.seq), is_current=event.revision >= revision)
        for event in emitted
        if event.speech is not None and is_said_now(event.speech)
    ]


def _words(speech: Speech, receipt: Receipt | None, *, is_current: bool) -> Words:
    total = len(speech.text.split())
    if receipt is None:
        return Words(speech.text, 0, is_coming=is_current)
    if receipt.state == "heard":
        return Words(speech.text, total, is_coming=False)
    is_coming = receipt.state == "woven" or (is_current and receipt.state not in SETTLED)
    return Words(speech.text, min(max(0, receipt.words_heard), total), is_coming)


def heard_note(words: Sequence[Words], limit_chars: int) -> str:
    """Tell a model what the user has heard, a line for each fate; empty where nothing was sent.

    Each line is cut in its middle to about `limit_chars`.
    """
    told = [one.text for one in words if not one.rest]
    cut_off = [one.told for one in words if one.told and one.rest]
    coming = [one.rest for one in words if one.rest and one.is_coming]
    unsaid = [one.rest for one in words if one.rest and not one.is_coming]
    lines = (
        ("The user was already told:", told),
        ("The user was cut off after:", cut_off),
        ("The user has not heard this yet, but will, so do not repeat it:", coming),
        ("The user was not told this, so say it if it still holds:", unsaid),
    )
    return "\n".join(f"{head} {cap(' '.join(texts), limit_chars).text}" for head, texts in lines if texts)
