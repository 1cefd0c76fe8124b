"""Gives a session that is taken over what it owes: the results that were not heard, and the question that waits."""

from __future__ import annotations

from microturn.runtime.delegations import Delegations
from microturn.runtime.questions import Questions
from microturn.runtime.reopened import Reopened, passed_over
from microturn.runtime.weaver import Weaver, is_settled


def restore(reopened: Reopened, delegations: Delegations, questions: Questions, weaver: Weaver) -> None:
    """Offer again what was not heard of the results, and the question after which a task has sent nothing more:
    whether it was answered is not known, and the first answer stays."""
    for promise in reopened.ledger.promises:
        receipts = {receipt.seq: receipt for receipt in promise.receipts}
        gone = passed_over(promise)
        for event in promise.events:
            receipt = receipts.get(event.seq)
            told = questions.note(delegations.recall(event, receipt), reopened.now_ms)
            fate = delegations.fate_of(told) or ("dropped" if event.seq in gone else None)
            is_waiting = event is promise.events[-1] and promise.task_state == "running"
            if told.is_question and is_waiting and fate is None:
                weaver.offer(told, reopened.now_ms)
            elif promise.state == "open" and (fate is None or is_settled(receipt)):
                weaver.restore(told, receipt, reopened.now_ms)
            elif promise.state == "open" and fate is not None:
                weaver.refuse(told, fate, reopened.now_ms)
        delegations.conclude(promise.task_id)
