"""One live conversation: what the beat does for it before and after the model's step.

Everything here is plain computation on the beat's thread. What would wait (Redis, a socket, a device, a file)
stands behind the port, the source and the playout, none of which do. A session knows nothing of what is inside
the model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from microturn.protocols import (
    INPUT_SAMPLES,
    MICRO_TURN_MS,
    Action,
    Cancel,
    Delegate,
    DelegationEvent,
    Dismiss,
    FloorState,
    MicroTurnInput,
    MicroTurnOutput,
    Resume,
    Transcript,
    Update,
    Utterance,
    WordsHeard,
)
from microturn.runtime.beat import Tick
from microturn.runtime.delegations import DelegationPort, Delegations, PortState
from microturn.runtime.events import (
    BackgroundHealth,
    BargedIn,
    Delegated,
    DelegationMoved,
    Observer,
    ReceiptIssued,
    SessionEvent,
    SpeechBegan,
    SpeechEnded,
    UserSaid,
)
from microturn.runtime.history import History
from microturn.runtime.ingress import Source
from microturn.runtime.playout import Playout, samples_to_ms
from microturn.runtime.telemetry import new_trace
from microturn.runtime.weave_policy import Moment, WeavePolicy
from microturn.runtime.weaver import Weaver

TYPED_LIMIT = 64
"""Lines that may wait to be read by the beat; the oldest is dropped."""


@dataclass(slots=True)
class _Speech:
    utterance: Utterance
    began_ms: float
    heard: int = 0


class Session:
    """The runtime's half of a conversation; the model's half is a `ModelSession`.

    Owned by the beat: `prepare` and `absorb` are called in turn for every tick. `type` may be called in between.
    """

    def __init__(
        self,
        session_id: str,
        source: Source,
        port: DelegationPort,
        *,
        policy: WeavePolicy | None = None,
        observers: Sequence[Observer] = (),
        deadline_s: float = 120.0,
    ) -> None:
        self.session_id = session_id
        self.playout = Playout()
        self.weaver = Weaver(policy)
        self.history = History()
        self.delegations = Delegations(session_id, port, deadline_s)
        self.floor = FloorState()
        self._source = source
        self._port = port
        self._observers = tuple(observers)
        self._typed: deque[str] = deque(maxlen=TYPED_LIMIT)
        self._speaking: dict[str, _Speech] = {}
        self._unheard: list[WordsHeard] = []
        self._health: PortState = "ok"

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being said, owed, or awaited."""
        return (
            self.weaver.is_empty
            and not self.playout.backlog_samples
            and not self.delegations.open_ids
            and not self._typed
            and not self.floor.reply_due
        )

    def type(self, line: str) -> None:
        """Let the user say something in writing; the model reads it in the next step."""
        self._typed.append(line)

    def prepare(self, tick: Tick) -> MicroTurnInput:
        """Gather what arrived since the last step."""
        now_ms = (tick.index + 1) * float(MICRO_TURN_MS)
        self._take_events(now_ms)
        heard = tuple(self._unheard)
        self._unheard.clear()
        woven = self.weaver.weave(Moment(now_ms, self.floor))
        self._pass_on_receipts()
        typed = tuple(self._typed)
        self._typed.clear()
        return MicroTurnInput(
            index=tick.index,
            audio=self._source.take(tick.count * INPUT_SAMPLES),
            text=typed,
            woven=woven,
            heard=heard,
        )

    def absorb(self, output: MicroTurnOutput) -> None:
        """Carry out what the model said and decided."""
        now_ms = (output.index + 1) * float(MICRO_TURN_MS)
        if output.playout == "stop":
            if self._speaking:
                self.observe(BargedIn(now_ms))
            self.playout.stop()
        elif output.playout == "hold":
            self.playout.hold()
        else:
            self.playout.resume()
        for utterance in output.utterances:
            self._speaking[utterance.utterance_id] = _Speech(utterance, now_ms)
        self.playout.push(output)
        self.floor = output.floor
        for transcript in output.transcripts:
            self._note_transcript(transcript)
        for action in output.actions:
            self._act(action, now_ms)

    def after_playing(self) -> None:
        """Account for what was played since the last call.

        The playout's first sample is played at the end of micro-turn 0: nothing can be said before it was heard.
        """
        for began in self.playout.take_begun():
            speech = self._speaking.get(began.utterance.utterance_id)
            at_ms = samples_to_ms(began.sample) + MICRO_TURN_MS
            if speech is not None:
                speech.began_ms = at_ms
            self.observe(
                SpeechBegan(
                    at_ms,
                    began.utterance.utterance_id,
                    began.utterance.text,
                    began.utterance.source,
                    self.weaver.task_of(began.utterance.item_id),
                )
            )
        for report in self.playout.take_heard():
            self._unheard.append(report)
            self._note_heard(report, samples_to_ms(self.playout.clock_samples) + MICRO_TURN_MS)

    def observe(self, event: SessionEvent) -> None:
        """Tell all observers."""
        for observer in self._observers:
            observer(event)

    def _take_events(self, now_ms: float) -> None:
        for event in self._port.poll():
            told = self.delegations.note(event)
            self.observe(DelegationMoved(now_ms, told))
            self._offer(told, now_ms)
        for notice in self.delegations.notices(now_ms):
            self._offer(notice, now_ms)
        if self._port.state != self._health:
            self._health = self._port.state
            self.observe(BackgroundHealth(now_ms, self._health))

    def _offer(self, event: DelegationEvent, now_ms: float) -> None:
        self.weaver.offer(event, now_ms)
        if event.speech is None:
            self.delegations.settle(event.task_id, event.seq)

    def _pass_on_receipts(self) -> None:
        for receipt in self.weaver.take_receipts():
            self.observe(ReceiptIssued(receipt))
            if receipt.state != "queued":
                self.delegations.settle(receipt.task_id, receipt.seq)

    def _note_transcript(self, transcript: Transcript) -> None:
        self.history.user_said(transcript)
        self.observe(UserSaid(transcript, transcript.typed))

    def _note_heard(self, report: WordsHeard, at_ms: float) -> None:
        speech = self._speaking.get(report.utterance_id)
        if speech is None:
            return
        speech.heard = report.words
        if not report.finished:
            return
        del self._speaking[report.utterance_id]
        utterance = speech.utterance
        if utterance.source != "backchannel":
            self.history.assistant_said(utterance.text, report.words, speech.began_ms, at_ms)
        self.observe(SpeechEnded(at_ms, utterance.utterance_id, report.words, utterance.words))
        if utterance.item_id is not None:
            self.weaver.heard(utterance.item_id, report.words, True, at_ms)

    def _act(self, action: Action, now_ms: float) -> None:
        match action:
            case Delegate():
                self._delegate(action, now_ms)
            case Update(task_id, text, start_ms, end_ms):
                target = task_id or next(reversed(self.delegations.open_ids), None)
                if target is None:
                    self._delegate(Delegate(text, start_ms, end_ms), now_ms)
                else:
                    self.delegations.update(target, text)
            case Cancel(task_id, reason):
                self.delegations.cancel(task_id, reason)
                self.weaver.drop(task_id, now_ms)
            case Resume():
                self.weaver.resume()
            case Dismiss():
                self.weaver.dismiss(now_ms)
            case _:
                assert_never(action)

    def _delegate(self, action: Delegate, now_ms: float) -> None:
        last = next(reversed(self.delegations.all), None)
        if action.completes_last and last is not None:
            self.delegations.cancel(last, "its words were not complete")
            self.weaver.drop(last, now_ms)
        task = self.delegations.submit(action, self.history.turns, now_ms, new_trace().headers())
        self.observe(Delegated(now_ms, task.package.task_id, action.intent, action.agent))
