"""Recognition for many sessions on one thread: the newest partial of each, polled, never waited for.

Knows nothing of when a partial is wanted or what becomes of it.
"""

from __future__ import annotations

from typing import Protocol

from microturn.interaction_model.cascade.latest_worker import LatestWorker
from microturn.interaction_model.cascade.recognizer import NOTHING, Recognition
from microturn.interaction_model.cascade.utterance import PartialText, RecognitionJob, join_text
from microturn.protocols import Samples


class Recognizer(Protocol):
    """Turns one stretch of sound into text."""

    def transcribe(self, audio: Samples) -> Recognition:
        """Return the words in 16 kHz sound of shape `(S,)`. Blocks."""


class RecognitionService(LatestWorker[RecognitionJob, PartialText]):
    """Owns the thread in which a recogniser runs; the newest text of each session, polled, never waited for."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        super().__init__(self._read, "recognition")

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
