"""Watch a conversation from outside: how long each task took, and how much of each answer was heard.

    python examples/observe.py examples/conversation/question.flac

An observer is called on the beat with everything that happens in a session. It must be quick and must not raise.
"""

import sys

from microturn import Assistant
from microturn.runtime.events import Delegated, DelegationMoved, ReceiptIssued, SessionEvent, SpeechEnded


class Stopwatch:
    """Measures every task from its hand-over to its end; times are session time in milliseconds."""

    def __init__(self) -> None:
        self.began_ms: dict[str, float] = {}
        self.took_ms: dict[str, float] = {}
        self.receipts: list[str] = []
        self.words_heard = 0

    def __call__(self, event: SessionEvent) -> None:
        """Take in one event; those that are not of interest pass by."""
        match event:
            case Delegated(at_ms, task_id):
                self.began_ms[task_id] = at_ms
            case DelegationMoved(at_ms, moved) if moved.is_terminal and moved.task_id in self.began_ms:
                self.took_ms[moved.task_id] = at_ms - self.began_ms[moved.task_id]
            case ReceiptIssued(receipt):
                self.receipts.append(f"{receipt.state} {receipt.words_heard}/{receipt.words_total} words")
            case SpeechEnded():
                self.words_heard += event.words_heard
            case _:
                pass


if __name__ == "__main__":
    stopwatch = Stopwatch()
    Assistant().talk(input=sys.argv[1], fast=True, observers=[stopwatch])
    for task_id, took_ms in stopwatch.took_ms.items():
        print(f"task {task_id[:6]} took {took_ms:.0f} ms")
    print(f"receipts: {', '.join(stopwatch.receipts)}")
    print(f"{stopwatch.words_heard} words of the assistant were heard")
