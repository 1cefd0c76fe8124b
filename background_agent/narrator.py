"""Turns what a run finds into events with words to be spoken, each thing once.

It cuts the growing answer into sentences, remembers what was said by this run and by those before it, and leaves out
what would be said twice: what the user has heard, and what is on its way to be heard. Knows nothing of models; when
it is spoken is the weaver's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from microturn.background_agent.engine import Control, Emit
from microturn.background_agent.heard import WAITING_PRIORITY, Words, is_said_now, words_sent
from microturn.background_agent.sentences import SentenceSplitter, says_nothing_new
from microturn.background_agent.speech_text import to_speech
from microturn.protocols import Speech, SpeechKind

SCHEDULED: Final[dict[str, JsonValue]] = {"scheduled": True}
"""Detail of words that a tool has scheduled: an effect of its call, which a correction does not undo by itself."""
_CUT_CHARS = 300
"""Most that is said of a sentence that never ended. Our choice: some twenty seconds."""


@dataclass(frozen=True, slots=True)
class _Sentence:
    """Words that this run has sent, and the corrections that they heed."""

    text: str
    revision: int


class Narrator:
    """The voice of one run. One task owns it."""

    def __init__(self, task_id: str, emit: Emit, control: Control) -> None:
        self._task_id = task_id
        self._emit = emit
        self._control = control
        self._sent: list[_Sentence] = []
        self._splitter = SentenceSplitter()
        self._taken = 0
        self._waits = sum(event.speech is not None for event in control.emitted)
        self._waiting = False
        self._has_told = False

    @property
    def words(self) -> list[Words]:
        """What was sent for this task to be said now, by any run, and how much of it was heard."""
        control = self._control
        return words_sent(control.emitted, control.receipts, control.revision)

    @property
    def said(self) -> str:
        """What need not be said again: what was heard, and what is on its way."""
        words = self.words
        told = [one.counted for one in words]
        known = {one.text for one in words}
        revision = self._control.revision
        # What was sent and is not among the events yet counts, unless a correction has made it worthless.
        told += [one.text for one in self._sent if one.revision == revision and one.text not in known]
        return " ".join(told)

    async def hear(self, text: str) -> None:
        """Take in an answer as far as it has come; its whole sentences are sent as `partial`."""
        if (
            len(text) < self._taken
        ):  # What seemed to be an answer was a thought whose beginning was not marked.
            self.drop_remark()
        sentences = self._splitter.feed(text[self._taken :])
        self._taken = len(text)
        for sentence in sentences:
            await self._partial(sentence)

    async def end_remark(self) -> None:
        """Send the rest of an answer after which the run goes on."""
        await self._partial(self._rest())

    def drop_remark(self) -> None:
        """Forget the rest of an answer that was broken off."""
        self._rest()

    async def final(self, text: str, detail: dict[str, JsonValue], *, is_cut: bool = False) -> None:
        """End the task with an answer: its last sentence is said, the whole text shown.

        Of an answer that was cut off, the last sentence is said only where no other was, and no more than can be heard.
        """
        rest = self._rest()
        if is_cut:
            rest = "" if self._has_told else f"{rest[:_CUT_CHARS].rpartition(' ')[0]} …"
            detail = {**detail, "cut": True}
        await self._emit("final", speech=self._speech(rest, "final"), text=text, detail=detail)

    async def fail(self, spoken: str, detail: dict[str, JsonValue]) -> None:
        """End the task without an answer, and say so."""
        speech = Speech(text=spoken, supersede_key=self._replaces(), kind="final")
        await self._emit("failed", speech=speech, text=spoken, detail=detail)

    def wait_with(self, words: str | None) -> Speech | None:
        """Words that may be said while something runs; the first result said after them replaces them."""
        if not words or not (spoken := to_speech(words)):
            return None
        self._waiting = True
        return Speech(
            text=spoken,
            mode="idle",
            priority=WAITING_PRIORITY,
            supersede_key=self._wait_key(),
            kind="progress",
        )

    def result(self, words: str | None) -> Speech | None:
        """The sentence of a tool that is worth saying, or None."""
        return self._speech(words or "")

    async def progress(self, words: str) -> None:
        """Report how far a tool has come."""
        await self._emit("progress", speech=self.wait_with(words), text=words)

    async def say(self, speech: Speech) -> None:
        """Send words that a tool has scheduled itself, as they are; not twice where its call is repeated."""
        if self._is_scheduled(speech):
            return
        self._note(speech)
        await self._emit("partial", speech=speech, text=speech.text, detail=SCHEDULED)

    def _is_scheduled(self, speech: Speech) -> bool:
        """Whether the same words for the same time were sent before, and no correction has come since."""
        revision = self._control.revision
        earlier = (event.speech for event in self._control.emitted if event.revision == revision)
        return speech.not_before_ms is not None and speech in earlier

    async def _partial(self, sentence: str) -> None:
        speech = self._speech(sentence)
        if speech is not None:
            self._has_told = True
            await self._emit("partial", speech=speech, text=sentence)

    def _rest(self) -> str:
        self._taken = 0
        return self._splitter.flush()

    def _speech(self, text: str, kind: SpeechKind = "fact") -> Speech | None:
        """Words to say for `text`; None where there are none, or they were said before."""
        spoken = to_speech(text)
        if not spoken or says_nothing_new(spoken, self.said):
            return None
        speech = Speech(text=spoken, supersede_key=self._replaces(), kind=kind)
        self._note(speech)
        return speech

    def _note(self, speech: Speech) -> None:
        if is_said_now(speech):
            self._sent.append(_Sentence(speech.text, self._control.revision))

    def _replaces(self) -> str | None:
        """The key of the waiting words that a result replaces. It is given once: results never replace results."""
        if not self._waiting:
            return None
        key = self._wait_key()
        self._waiting = False
        self._waits += 1
        return key

    def _wait_key(self) -> str:
        return f"{self._task_id}/waiting/{self._waits}"
