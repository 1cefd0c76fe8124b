"""Carries out what the model has decided: hands tasks over, corrects and cancels them, passes answers on.

Knows what each decision means for what is known of the tasks and for what waits to be said; nothing of why it was made.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from microturn.protocols import Action, Answer, Cancel, Delegate, Dismiss, Resume, Update
from microturn.runtime.delegations import Delegations
from microturn.runtime.events import Delegated, Observer
from microturn.runtime.history import History
from microturn.runtime.questions import Questions
from microturn.runtime.tracing import trace_hand_over
from microturn.runtime.weaver import Weaver


class Orders:
    """The decisions of one session. Owned by the beat."""

    def __init__(
        self,
        session_id: str,
        *,
        delegations: Delegations,
        questions: Questions,
        weaver: Weaver,
        history: History,
        observe: Observer,
        fingerprint: str = "",
    ) -> None:
        self._session_id = session_id
        self._fingerprint = fingerprint
        self._delegations = delegations
        self._questions = questions
        self._weaver = weaver
        self._history = history
        self._observe = observe

    def carry_out(self, action: Action, now_ms: float) -> None:
        """Do what one action says."""
        match action:
            case Delegate():
                self._delegate(action, now_ms)
            case Update():
                self._correct(action, now_ms)
            case Cancel(task_id, reason):
                self._delegations.cancel(task_id, reason)
                self._weaver.drop(task_id, now_ms)
                if task_id in (None, self._questions.asking):
                    self._questions.close()
            case Resume():
                self._weaver.resume()
            case Dismiss():
                self._weaver.dismiss(now_ms)
                self._questions.leave_unanswered()
            case Answer():
                self._answer(action, now_ms)
            case _:
                assert_never(action)

    def redo(self, task_id: str, now_ms: float) -> None:
        """Hand over anew a task that had ended when the user's correction reached it."""
        task = self._delegations.all.get(task_id)
        if task is None or task.unwanted or not task.corrections:
            return
        self._weaver.supersede(task_id, now_ms)
        self._delegate(self._delegations.redone(task), now_ms)

    def _correct(self, update: Update, now_ms: float) -> None:
        """Pass a correction on to the task that it means, or to a new task where that one cannot take it any more.

        What waits of an answer that knows nothing of it is given up; what is being said is for the user to stop.
        """
        if update.task_id is None:
            update = replace(
                update, task_id=self._questions.asking
            )  # What was just asked is what is changed.
        task = self._delegations.corrected_by(update, now_ms)
        if task is None:
            self._delegate(Delegate(update.text, update.said_start_ms, update.said_end_ms), now_ms)
            return
        self._weaver.supersede(task.task_id, now_ms)
        if self._questions.asking == task.task_id:
            self._questions.close()
        if task.is_open:
            self._delegations.update(task, update)
        else:
            task.corrections.append(update)
            self._delegate(self._delegations.redone(task), now_ms)

    def _answer(self, answer: Answer, now_ms: float) -> None:
        """Pass on what the user said to a question, as a correction where it asks for something else."""
        asked = self._questions.take(answer)
        if asked is None:
            return
        self._weaver.conclude(answer.item_id)
        if self._questions.is_change(asked, answer.text):
            update = Update(asked.task_id, answer.text, answer.said_start_ms, answer.said_end_ms)
            self._correct(update, now_ms)
        else:
            self._delegations.answer(asked.task_id, asked.seq, answer.text)

    def _delegate(self, action: Delegate, now_ms: float) -> None:
        last = next(reversed(self._delegations.all), None)
        if action.completes_last and last is not None:
            self._delegations.cancel(last, "its words were not complete")
            self._weaver.drop(last, now_ms)
        said_ago_ms = max(0.0, now_ms - action.said_start_ms)
        task = self._delegations.submit(
            action,
            self._history,
            now_ms,
            lambda task_id: trace_hand_over(
                self._session_id, task_id, action.agent, said_ago_ms, self._fingerprint
            ),
        )
        self._observe(Delegated(now_ms, task.task_id, action.intent, action.agent, task.trace))
