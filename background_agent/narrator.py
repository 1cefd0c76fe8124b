"""Turns what a run finds into events with words to be spoken, each thing once.

It cuts the growing answer into sentences, remembers what was said by this attempt and by those before it, and
leaves out what would be said twice. Knows nothing of models; when it is spoken is the weaver's business.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from microturn.background_agent.engine import Emit
from microturn.background_agent.sentences import SentenceSplitter, says_nothing_new
from microturn.background_agent.speech_text import to_speech
from microturn.protocols import DelegationEvent, Speech

_WAITING_PRIORITY = -1
"""Words that fill a wait are said after any that carry a result."""


class Narrator:
    """The voice of one attempt. One task owns it."""

    def __init__(self, task_id: str, emit: Emit, emitted: Sequence[DelegationEvent]) -> None:
        self._task_id = task_id
        self._emit = emit
        speeches = [event.speech for event in emitted if event.speech is not None]
        self._said = [speech.text for speech in speeches if _is_said_now(speech)]
        self._splitter = SentenceSplitter()
        self._taken = 0
        self._waits = len(speeches)
        self._waiting = False

    @property
    def said(self) -> str:
        """All that was said for this task, by any attempt."""
        return " ".join(self._said)

    async def hear(self, text: str) -> None:
        """Take in an answer as far as it has come; its whole sentences are sent as `partial`."""
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

    async def final(self, text: str, detail: dict[str, JsonValue]) -> None:
        """End the task with an answer: its last sentence is said, the whole text shown."""
        await self._emit("final", speech=self._speech(self._rest()), text=text, detail=detail)

    async def fail(self, spoken: str, detail: dict[str, JsonValue]) -> None:
        """End the task without an answer, and say so."""
        await self._emit(
            "failed", speech=Speech(text=spoken, supersede_key=self._replaces()), text=spoken, detail=detail
        )

    def wait_with(self, words: str | None) -> Speech | None:
        """Words that may be said while something runs; the first result said after them replaces them."""
        if not words or not (spoken := to_speech(words)):
            return None
        self._waiting = True
        return Speech(text=spoken, mode="idle", priority=_WAITING_PRIORITY, supersede_key=self._wait_key())

    def result(self, words: str | None) -> Speech | None:
        """The sentence of a tool that is worth saying, or None."""
        return self._speech(words or "")

    async def progress(self, words: str) -> None:
        """Report how far a tool has come."""
        await self._emit("progress", speech=self.wait_with(words), text=words)

    async def say(self, speech: Speech) -> None:
        """Send words that a tool has scheduled itself, as they are."""
        if _is_said_now(speech):
            self._said.append(speech.text)
        await self._emit("partial", speech=speech, text=speech.text)

    async def _partial(self, sentence: str) -> None:
        speech = self._speech(sentence)
        if speech is not None:
            await self._emit("partial", speech=speech, text=sentence)

    def _rest(self) -> str:
        self._taken = 0
        return self._splitter.flush()

    def _speech(self, text: str) -> Speech | None:
        """Words to say for `text`; None where there are none, or they were said before."""
        spoken = to_speech(text)
        if not spoken or says_nothing_new(spoken, self.said):
            return None
        self._said.append(spoken)
        return Speech(text=spoken, supersede_key=self._replaces())

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


def _is_said_now(speech: Speech) -> bool:
    """Whether the words are an answer for now: not a wait, not a reminder for later, not silent."""
    return speech.not_before_ms is None and speech.mode != "silent" and speech.priority != _WAITING_PRIORITY
