"""What a session is saying: which utterances have not ended, and how much of each the user has heard.

Knows what an account of the playout means for what was asked and what was promised; nothing of sound.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from microturn.protocols import MICRO_TURN_MS, Utterance, WordsHeard
from microturn.runtime.events import Observer, SpeechBegan, SpeechEnded
from microturn.runtime.history import History
from microturn.runtime.playout import Began, Playout, samples_to_ms
from microturn.runtime.questions import Questions
from microturn.runtime.weaver import Weaver


@dataclass(slots=True)
class Speech:
    """An utterance that has not ended."""

    utterance: Utterance
    began_ms: float
    """When its first sample was played; before that, when the model gave it."""
    heard: int = 0
    """Words that were played."""


class Speaking:
    """The utterances of one session that have not ended. Owned by the beat."""

    def __init__(self, history: History, questions: Questions, weaver: Weaver, observe: Observer) -> None:
        self._history = history
        self._questions = questions
        self._weaver = weaver
        self._observe = observe
        self._speeches: dict[str, Speech] = {}
        self._unheard: list[WordsHeard] = []

    @property
    def now(self) -> Collection[Speech]:
        """What has not ended, oldest first."""
        return self._speeches.values()

    def add(self, utterances: Sequence[Utterance], now_ms: float) -> None:
        """Take in what the model has begun to say."""
        for utterance in utterances:
            self._speeches[utterance.utterance_id] = Speech(utterance, now_ms)

    def account(self, playout: Playout) -> None:
        """Account for what was played since the last call.

        The playout's first sample is played at the end of micro-turn 0: nothing can be said before it was heard.
        """
        for began in playout.take_begun():
            self._begin(began)
        for report in playout.take_heard():
            self._unheard.append(report)
            self._hear(report, samples_to_ms(playout.clock_samples) + MICRO_TURN_MS)

    def take_heard(self) -> tuple[WordsHeard, ...]:
        """Return what was heard since the last call, for the model."""
        heard = tuple(self._unheard)
        self._unheard.clear()
        return heard

    def take_back(self, just_woven: Collection[str], now_ms: float) -> None:
        """Offer again what the model had still to begin when it was told to stop: no player will ever tell of it.

        `just_woven` it has only now been given, and may begin all the same.
        """
        begun = {speech.utterance.item_id for speech in self.now}
        for item_id in self._weaver.under_way - begun - set(just_woven):
            self._questions.heard(item_id, 0, True, now_ms)
            self._weaver.heard(item_id, 0, True, now_ms)

    def _begin(self, began: Began) -> None:
        utterance, at_ms = began.utterance, samples_to_ms(began.sample) + MICRO_TURN_MS
        speech = self._speeches.get(utterance.utterance_id)
        if speech is not None:
            speech.began_ms = at_ms
        task_id = self._weaver.task_of(utterance.item_id)
        self._observe(SpeechBegan(at_ms, utterance.utterance_id, utterance.text, utterance.source, task_id))

    def _hear(self, report: WordsHeard, at_ms: float) -> None:
        speech = self._speeches.get(report.utterance_id)
        if speech is None:
            return
        speech.heard = report.words
        utterance, item_id = speech.utterance, speech.utterance.item_id
        if item_id is not None:
            self._questions.heard(item_id, report.words, report.finished, at_ms)
            self._weaver.heard(item_id, report.words, report.finished, at_ms)
        if not report.finished:
            return
        del self._speeches[report.utterance_id]
        if utterance.source != "backchannel":
            self._history.assistant_said(
                utterance.text, report.words, speech.began_ms, at_ms, source=utterance.source
            )
        self._observe(SpeechEnded(at_ms, utterance.utterance_id, report.words, utterance.words))
