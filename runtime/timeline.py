"""Keeps what happened in a conversation and when, to be drawn as one picture.

Knows nothing of sessions, only of their events, and nothing of drawing, which is done in `timeline_picture.py`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from microturn.protocols import INPUT_RATE_HZ, MICRO_TURN_MS, OUTPUT_RATE_HZ, Samples
from microturn.runtime._errors import MissingExtraError
from microturn.runtime.events import (
    BargedIn,
    Delegated,
    DelegationMoved,
    SessionEvent,
    SpeechBegan,
    SpeechEnded,
    TickDone,
    UserSaid,
)
from microturn.runtime.timeline_picture import draw_picture
from microturn.runtime.timeline_record import Envelope, Record, SpokenUtterance, TaskRun, UserTurn


class Timeline:
    """Keeps what is drawn of one conversation; an observer, and a tap where the sound is to be seen too.

    It grows by some 30 kB a minute. The picture shows what was said, to whoever asked for it.
    """

    def __init__(self) -> None:
        """Begin an empty timeline.

        Raises:
            MissingExtraError: matplotlib is not installed; known before the conversation rather than after it.
        """
        if importlib.util.find_spec("matplotlib") is None:
            raise MissingExtraError("matplotlib", "speech", "drawing a timeline")
        self.record = Record()
        self._heard = Envelope(INPUT_RATE_HZ)
        self._played = Envelope(OUTPUT_RATE_HZ)

    def __call__(self, event: SessionEvent) -> None:
        """Take in an event."""
        record = self.record
        match event:
            case TickDone():
                self._tick(event)
            case UserSaid(transcript, typed) if transcript.final and transcript.text.strip():
                record.turns.append(UserTurn(transcript.start_ms, transcript.end_ms, transcript.text, typed))
            case SpeechBegan():
                record.utterances.append(
                    SpokenUtterance(event.utterance_id, event.at_ms, event.text, event.source, event.task_id)
                )
            case SpeechEnded():
                self._speech_ended(event)
            case BargedIn(at_ms):
                record.barge_ins_ms.append(at_ms)
            case Delegated():
                record.tasks[event.task_id] = TaskRun(event.task_id, event.intent, event.at_ms)
            case DelegationMoved(at_ms, moved):
                if (task := record.tasks.get(moved.task_id)) is not None:
                    task.note(moved, at_ms)
            case _:
                pass

    def heard(self, audio: Samples) -> None:
        """Keep the outline of the user's side."""
        self._heard.push(audio)

    def played(self, audio: Samples) -> None:
        """Keep the outline of the assistant's side."""
        self._played.push(audio)

    def draw(self, path: str | Path) -> None:
        """Write the picture as a PNG file. Blocks: a second for a short conversation, ten for half an hour.

        Raises:
            UserError: the file cannot be written there.
        """
        self.record.heard, self.record.played = self._heard.peaks, self._played.peaks
        draw_picture(self.record, Path(path))

    def _tick(self, event: TickDone) -> None:
        record = self.record
        record.tick_ends_ms.append((event.index + 1) * float(MICRO_TURN_MS))
        record.step_ms.append(event.step_ms)
        record.heard_peaks.append(event.heard_peak)
        record.missed += event.count - 1
        if not record.floor or record.floor[-1][1] is not event.floor.holder:
            before_ms = record.floor[-1][0] if record.floor else 0.0
            record.floor.append((max(before_ms, float(event.floor.since_ms)), event.floor.holder))

    def _speech_ended(self, event: SpeechEnded) -> None:
        for utterance in reversed(self.record.utterances):
            if utterance.utterance_id == event.utterance_id:
                utterance.end_ms = event.at_ms
                utterance.words_heard = event.words_heard
                utterance.words_total = event.words_total
                return
