"""The questions that tasks put to the user: which one waits for an answer now, and what becomes of it.

One at a time: while a question is being said, or was heard and waits for its answer, no other is said. Only what the
user says after a question was heard is its answer. Knows nothing of how it is said, nor of what an answer means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from microturn.background_agent.questions import asks_for
from microturn.background_agent.yes_no import is_correction
from microturn.protocols import Answer, DelegationEvent, OpenQuestion, WovenText
from microturn.runtime.woven_item import WovenItem

UNHEARD_WORDS = 1
"""Words at its end without which a question is understood: people begin to answer while the last one is still being
said. Our choice."""
QUIET_FOR_MS = 10_000
"""How long after a question nothing else is said that does not interrupt, so that the next "yes" is meant for it. Our
choice."""
ANSWER_WITHIN_MS = 60_000
"""How long a question waits for its answer where its task does not say. Our choice."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question is to the task that asks it."""

    task_id: str
    seq: int


@dataclass(slots=True)
class _Question:
    asked: Asked
    item: WovenItem
    until_ms: float
    understood_ms: float | None = None
    is_over: bool = False
    """Whether nothing more of it will be said."""


class Questions:
    """The questions of one session. Owned by the beat."""

    def __init__(self, tell: Callable[[str, int, str], None]) -> None:
        """`tell` tells a task, by its id and the number of its question, what was answered; nothing for no answer."""
        self._tell = tell
        self._until_ms: dict[Asked, float] = {}
        """Of each question that has come: when its answer is worth nothing any more."""
        self._approvals: set[Asked] = set()
        self._current: _Question | None = None

    @property
    def open(self) -> OpenQuestion | None:
        """The question that the user has understood and not answered."""
        current = self._current
        if current is None or current.understood_ms is None:
            return None
        return OpenQuestion(str(current.item), round(current.understood_ms))

    @property
    def asking(self) -> str | None:
        """The task whose question is being said or waits for its answer."""
        return self._current.asked.task_id if self._current is not None else None

    def note(self, event: DelegationEvent, now_ms: float) -> DelegationEvent:
        """Take in an event of a task; a question gets the time after which it is not worth asking."""
        if not event.is_question or event.speech is None:
            return event
        asked = Asked(event.task_id, event.seq)
        within_s = event.detail.get("answer_within_s")
        within_ms = within_s * 1000 if isinstance(within_s, (int, float)) else ANSWER_WITHIN_MS
        self._until_ms[asked] = now_ms + within_ms
        if asks_for(event) == "approval":
            self._approvals.add(asked)
        speech = event.speech.model_copy(update={"expires_ms": round(now_ms + within_ms)})
        return event.model_copy(update={"speech": speech})

    def note_woven(self, woven: Sequence[WovenText], now_ms: float) -> None:
        """Take in what is about to be said.

        A question that waits for its answer is given up where something else is said, as what the user says then may
        not be meant for it, and where its time is up.
        """
        for each in woven:
            self.leave_unanswered()
            if each.asks:
                self._begin(each)
        if self._current is not None and now_ms >= self._current.until_ms:
            self.leave_unanswered()
            self._current = None

    def leave_unanswered(self) -> None:
        """Tell the task whose question was understood that no answer comes; one that is being said is left alone."""
        if self.open is not None and (asked := self.close()) is not None:
            self._tell(asked.task_id, asked.seq, "")

    def heard(self, item_id: str, words: int, finished: bool, now_ms: float) -> None:
        """Take in how far the question was heard; one that is cut off before it was understood is none any more."""
        current = self._current
        if current is None or str(current.item) != item_id:
            return
        reached = list(current.item.reached(words))[-1]
        if current.understood_ms is None and reached >= current.item.stretches[-1].words - UNHEARD_WORDS:
            current.understood_ms = now_ms
        if finished and current.understood_ms is None:
            self._current = None

    def keeps_quiet(self, now_ms: float) -> bool:
        """Whether nothing else should be said, so that the user can answer."""
        current = self._current
        return current is not None and (
            current.understood_ms is None or now_ms < current.understood_ms + QUIET_FOR_MS
        )

    def take(self, answer: Answer) -> Asked | None:
        """The question that an answer closes; None where it is not open, or the words were said before it was heard."""
        open_question = self.open
        if open_question is None or self._current is None or answer.item_id != open_question.item_id:
            return None
        if answer.said_end_ms < open_question.since_ms:
            return None
        return self.close()

    def is_change(self, asked: Asked, text: str) -> bool:
        """Whether what was said to a question corrects the task: it approves something else than was asked."""
        return asked in self._approvals and is_correction(text)

    def close(self) -> Asked | None:
        """Wait for no answer any more; returns what was asked."""
        current, self._current = self._current, None
        return current.asked if current is not None else None

    def ended(self, task_id: str) -> None:
        """Take in that a task sends nothing more, and waits for nothing."""
        self._until_ms = {asked: until for asked, until in self._until_ms.items() if asked.task_id != task_id}
        self._approvals = {asked for asked in self._approvals if asked.task_id != task_id}
        if self.asking == task_id:
            self._current = None

    def _begin(self, woven: WovenText) -> None:
        item = WovenItem.parse(woven.item_id)
        asked = Asked(item.task_id, item.stretches[-1].seq)
        self._current = _Question(asked, item, self._until_ms.get(asked, 0.0))
