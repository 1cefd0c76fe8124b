"""One live conversation: what the beat does for it before and after the model's step.

Everything here is plain computation on the beat's thread. What would wait (Redis, a socket, a device, a file)
stands behind the port, the source and the playout, none of which do. A session knows nothing of what is inside
the model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from microturn.protocols import (
    INPUT_SAMPLES,
    MICRO_TURN_MS,
    DelegationEvent,
    FloorState,
    Frame,
    MicroTurnInput,
    MicroTurnOutput,
    Receipt,
    Transcript,
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
    SessionMoved,
    UserSaid,
)
from microturn.runtime.history import History
from microturn.runtime.ingress import Source
from microturn.runtime.orders import Orders
from microturn.runtime.playout import Playout
from microturn.runtime.questions import Questions
from microturn.runtime.remarks import REMARK_TASK, Remarks
from microturn.runtime.reopened import Reopened
from microturn.runtime.restoration import restore
from microturn.runtime.sight import Sight
from microturn.runtime.speaking import Speaking
from microturn.runtime.tracing import WeaveTracer, headers_of
from microturn.runtime.weave_policy import Moment, WeavePolicy
from microturn.runtime.weaver import Weaver

TYPED_LIMIT = 64
"""Lines that may wait to be read by the beat; the oldest is dropped."""


class Session:
    """The runtime's half of a conversation; the model's half is a `ModelSession`.

    Owned by the beat: `prepare` and `absorb` are called in turn for every tick. `type` and `show` may be called in between, `see` at any time.

    A session whose process died is taken over by one that is given what it left (`Hub.reopen`): what the user has
    not heard of the results is offered again from where it was cut off. What is lost is the conversation's own words,
    but for what was asked and answered. The session that another process has taken over falls silent: it says and
    hands over nothing more.
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
        reopened: Reopened | None = None,
        remarks: Remarks | None = None,
        fingerprint: str = "",
    ) -> None:
        """Begin, or go on.

        Args:
            session_id: names the session on the bus; letters, digits, `_`, `.` and `-`, at most 200.
            source: what is heard.
            port: this session's way to the background.
            policy: when results are said; `NaturalPause` unless given.
            observers: called with every `SessionEvent`.
            deadline_s: how long an answer is worth having, in seconds from the hand-over.
            reopened: what the session was when its process died; None begins a new one.
            remarks: what is said while the background is slow; `Remarks(())` says nothing.
            fingerprint: the interaction model's, for the traces.
        """
        self.session_id = session_id
        self.playout = Playout()
        self.weaver = Weaver(policy)
        self.history = History()
        self.delegations = Delegations(session_id, port, deadline_s, reopened)
        self.questions = Questions(self.delegations.answer)
        self.floor = FloorState()
        self._source = source
        self._port = port
        self._observers: tuple[Observer, ...] = (WeaveTracer(session_id), *observers)
        self._typed: deque[str] = deque(maxlen=TYPED_LIMIT)
        self._sight = Sight()
        self._being_said: set[tuple[str, int]] = set()
        self._just_woven: frozenset[str] = frozenset()
        self._health: PortState = "ok"
        self._remarks = remarks or Remarks()
        self.speaking = Speaking(self.history, self.questions, self.weaver, self.observe)
        self._orders = Orders(
            session_id,
            delegations=self.delegations,
            questions=self.questions,
            weaver=self.weaver,
            history=self.history,
            observe=self.observe,
            fingerprint=fingerprint,
        )
        self._has_entered = False
        self._now_ms = 0.0
        if reopened is not None:
            restore(reopened, self.delegations, self.questions, self.weaver)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being said, owed, or awaited."""
        return (
            self.weaver.is_empty
            and not self.playout.backlog_samples
            and (self.has_moved or not self.delegations.is_awaited)
            and not self._typed
            and not self.floor.reply_due
        )

    @property
    def awaits_user(self) -> bool:
        """Whether a question was put to the user, and all is said: nothing goes on before it is answered."""
        return self.questions.open is not None and not self.playout.backlog_samples and not self._typed

    @property
    def has_moved(self) -> bool:
        """Whether another process has the session now."""
        return self._health == "moved"

    def type(self, line: str) -> None:
        """Let the user say something in writing; the model reads it in the next step."""
        self._typed.append(line)

    def show(self, image: bytes, media_type: str) -> bool:
        """Let the user show a picture: it goes, by reference, with the tasks that are handed over from now on.

        The newest 4 do, each for 2 minutes unless the bus is told otherwise. Never waits. False where the picture is
        empty or larger than 1 MiB, or another process has the session now.

        Args:
            image: the picture, encoded.
            media_type: how it is encoded, such as `image/jpeg`.
        """
        reference = self._port.keep_nowait(image, media_type, round(self._now_ms))
        if reference is not None:
            self.delegations.key_frames.add(reference)
        return reference is not None

    def see(self, frame: Frame) -> None:
        """Let the user's camera be seen: the model looks at the newest frames in its next step. Never waits.

        May be called from any thread. Of the frames between two steps at most two are seen, about 100 ms apart; ten
        frames a second are as good as more. A model without eyes looks at none.

        Args:
            frame: RGB; its time is that of the session, as `Host.see` sets it.

        Raises:
            BadFrameError: its pixels are no RGB picture.
        """
        self._sight.push(frame)

    def prepare(self, tick: Tick) -> MicroTurnInput:
        """Gather what arrived since the last step."""
        now_ms = self._now_ms = (tick.index + 1) * float(MICRO_TURN_MS)
        self._has_entered = self._has_entered or self._port.enter_nowait(now_ms)
        self._note_health(now_ms)
        if not self.has_moved:
            self._take_events(now_ms)
        heard = self.speaking.take_heard()
        woven = self.weaver.weave(Moment(now_ms, self.floor), is_asking=self.questions.keeps_quiet(now_ms))
        self.questions.note_woven(woven, now_ms)
        self._just_woven = frozenset(each.item_id for each in woven)
        self._pass_on_receipts()
        typed = tuple(self._typed)
        self._typed.clear()
        return MicroTurnInput(
            index=tick.index,
            audio=self._source.take(tick.count * INPUT_SAMPLES),
            frames=self._sight.take(now_ms),
            text=typed,
            woven=woven,
            heard=heard,
            question=self.questions.open,
        )

    def absorb(self, output: MicroTurnOutput) -> None:
        """Carry out what the model said and decided."""
        now_ms = (output.index + 1) * float(MICRO_TURN_MS)
        if self.has_moved:
            return
        if output.playout == "stop":
            if self.speaking.now:
                self.observe(BargedIn(now_ms))
            self.weaver.cut()
            self.playout.stop()
            self.speaking.take_back(self._just_woven, now_ms)
        elif output.playout == "hold":
            self.playout.hold()
        else:
            self.playout.resume()
        self.speaking.add(output.utterances, now_ms)
        self.playout.push(output)
        self.floor = output.floor
        for transcript in output.transcripts:
            self._note_transcript(transcript)
        for action in output.actions:
            self._orders.carry_out(action, now_ms)

    def after_playing(self) -> None:
        """Account for what was played since the last call."""
        self.speaking.account(self.playout)

    def observe(self, event: SessionEvent) -> None:
        """Tell all observers."""
        for observer in self._observers:
            observer(event)

    def _note_health(self, now_ms: float) -> None:
        if self.has_moved or self._port.state == self._health:
            return
        self._health = self._port.state
        if self._health == "moved":
            self._fall_silent(now_ms)
        else:
            self.observe(BackgroundHealth(now_ms, self._health))

    def _fall_silent(self, now_ms: float) -> None:
        """Leave everything to the process that has the session now; that gives receipts for it, too."""
        self.weaver.clear()
        self.questions.close()
        self.playout.stop()
        self.observe(SessionMoved(now_ms))

    def _take_events(self, now_ms: float) -> None:
        for promise in self._port.adopted():
            adopted = self.delegations.adopt(promise, now_ms)
            headers = headers_of(adopted.task_id)
            self.observe(Delegated(now_ms, adopted.task_id, adopted.intent, adopted.order.agent, headers))
        for event in self._port.poll():
            told = self.delegations.note(event, now_ms)
            if told is not None:
                self.observe(DelegationMoved(now_ms, told))
                self._offer(self.questions.note(told, now_ms), now_ms)
                if told.is_terminal:
                    self.questions.ended(told.task_id)
        for task_id in self._port.refused_updates():
            self._orders.redo(task_id, now_ms)
        for notice in self.delegations.notices(now_ms):
            self.weaver.offer(notice, now_ms)
        self._remark(now_ms)

    def _offer(self, event: DelegationEvent, now_ms: float) -> None:
        fate = self.delegations.fate_of(event)
        if fate is None:
            self.weaver.offer(event, now_ms)
        else:
            self.weaver.refuse(event, fate, now_ms)
        if event.speech is None:
            self.delegations.settle(event.task_id, event.seq)
        if event.speech is not None or event.is_terminal:
            self.weaver.withdraw(REMARK_TASK, now_ms)

    def _remark(self, now_ms: float) -> None:
        """Say a word where the user waits, somebody works, and nothing else is to be said or answered."""
        reminded = self.weaver.reminded(now_ms)
        self._remarks.watch([i for i in self.delegations.awaited_ids if i not in reminded], now_ms)
        if self._health == "ok" and self.questions.asking is None and not self.weaver.has_due(now_ms):
            remark = self._remarks.due(Moment(now_ms, self.floor))
            if remark is not None:
                self.weaver.offer(remark, now_ms)

    def _pass_on_receipts(self) -> None:
        for receipt in self.weaver.take_receipts():
            self._note_receipt(receipt)
            if receipt.state in ("woven", "heard", "interrupted"):
                self._remarks.spoken_of(receipt.task_id, receipt.session_ms)
            self.delegations.take_receipt(receipt)

    def _note_receipt(self, receipt: Receipt) -> None:
        """Tell the observers of a new state; that more words of a piece were heard is not one."""
        key = (receipt.task_id, receipt.seq)
        if receipt.state != "woven":
            self._being_said.discard(key)
        elif key in self._being_said:
            return
        else:
            self._being_said.add(key)
        self.observe(ReceiptIssued(receipt))

    def _note_transcript(self, transcript: Transcript) -> None:
        self.history.user_said(transcript)
        self.observe(UserSaid(transcript, transcript.typed))
