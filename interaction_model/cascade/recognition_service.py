"""Recognition for many sessions on one thread: the newest partial of each, polled, never waited for.

Knows nothing of when a partial is wanted or what becomes of it.
"""

from __future__ import annotations

from typing import Protocol

from microturn.interaction_model.cascade.latest_worker import LatestWorker, WorkerStatistics
from microturn.interaction_model.cascade.recognizer import NOTHING, Recognition
from microturn.interaction_model.cascade.utterance import PartialText, RecognitionJob, join_text
from microturn.protocols import Samples


class Recognizer(Protocol):
    """Turns one stretch of sound into text."""

    def transcribe(self, audio: Samples) -> Recognition:
        """Return the words in 16 kHz sound of shape `(S,)`. Blocks."""


class RecognitionService:
    """Owns the thread in which a recogniser runs. Only `settle` and `close` block."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self._worker: LatestWorker[RecognitionJob, PartialText] = LatestWorker(self._read, "recognition")

    def submit(self, session_id: str, job: RecognitionJob) -> None:
        """Ask for the text of a job; one of the same session that has not begun is replaced."""
        self._worker.submit(session_id, job)

    def poll(self, session_id: str) -> PartialText | None:
        """Return the newest text of a session, once.

        Raises:
            WorkFailedError: the recogniser raised.
        """
        return self._worker.poll(session_id)

    def is_busy(self, session_id: str) -> bool:
        """Whether a job of the session runs or waits."""
        return self._worker.is_busy(session_id)

    def forget(self, session_id: str) -> None:
        """Drop everything of a session, for when it is rewound or closed."""
        self._worker.forget(session_id)

    def settle(self) -> None:
        """Wait until nothing runs or waits."""
        self._worker.settle()

    def statistics(self) -> WorkerStatistics:
        """Return counts of the jobs."""
        return self._worker.statistics()

    def close(self) -> None:
        """Let the running job end, drop the rest, end the thread."""
        self._worker.close()

    def _read(self, job: RecognitionJob) -> PartialText:
        committed, position = job.committed, job.start_sample
        for piece in job.pieces[:-1]:
            committed = join_text(committed, self._recognizer.transcribe(piece).text)
            position += piece.size
        last = job.pieces[-1]
        heard = self._recognizer.transcribe(last) if last.size else NOTHING
        return PartialText(
            turn=job.turn,
            text=join_text(committed, heard.text),
            open_text=heard.text,
            committed=committed,
            committed_until=position,
            end_sample=position + last.size,
            mean_logprob=heard.mean_logprob,
        )
