"""Situations: a table of who says what and what comes back when, and of what must then be said when.

For whoever writes a weave policy: each row is played on a virtual clock, through a real session, and what was said is
compared with what was expected. Whatever the policy, no result may begin over the user's voice unless it interrupts,
and no piece may have two fates; that is checked in every situation.

    problems = await play(Situation("one result", (UserLine(0, 1000, "what is it?"),), ...), policy)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from microturn.protocols import (
    SETTLED,
    Cancel,
    ContextPackage,
    Delegate,
    Dismiss,
    Resume,
    Update,
)
from microturn.runtime.events import ReceiptIssued, SpeechBegan
from microturn.runtime.remarks import Remarks
from microturn.runtime.testing.scripted_background import Result
from microturn.runtime.testing.scripted_model import Answer, UserLine
from microturn.runtime.testing.stage import Stage
from microturn.runtime.weave_policy import WeavePolicy

TOLERANCE_MS = 200
"""A micro-turn: how much later than expected something may begin to be said."""


def obedient(text: str) -> Answer:
    """Do what a line says: hand over a question, correct (`no, ...`), cancel (`never mind`), drop the rest (`stop`),
    go on (`go on`); all else is passed over in silence."""
    if text.endswith("?"):
        return Answer("One moment.", (Delegate(text, 0, 0),))
    if text.startswith("no, "):
        return Answer("Okay.", (Update(None, text, 0, 0),))
    answers = {
        "never mind": Answer(actions=(Cancel(None, "the user asked"),)),
        "stop": Answer(actions=(Dismiss(),)),
        "go on": Answer(actions=(Resume(),)),
    }
    return answers.get(text, Answer())


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that must be said of the results, and when it must begin."""

    text: str
    at_ms: int
    """Session time at which its first sound is to be played, or up to `within_ms` later."""
    within_ms: int = TOLERANCE_MS


@dataclass(frozen=True, slots=True)
class Situation:
    """One row of a table."""

    name: str
    lines: tuple[UserLine, ...]
    """What the user says. Tasks are named by the lines that they were handed over with."""
    results: Mapping[str, Sequence[Result]]
    """What comes back for each task, by its intent."""
    expected: tuple[Said, ...]
    """All that is to be said of it, in order."""
    fates: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """For a task's intent, the last receipt's state of each of its pieces in order; checked only where given."""
    promises: Mapping[str, str] = field(default_factory=dict)
    """For a task's intent, what has become of its promise at the end; checked only where given."""
    duration_ms: int = 15_000
    answer: Callable[[str], Answer] = obedient
    remarks: tuple[str, ...] = ()
    """What may be said while the background is slow."""


async def play(situation: Situation, policy: WeavePolicy | None = None) -> list[str]:
    """Play a situation, and return what went otherwise than expected: one sentence each, none if all is well."""

    def work(package: ContextPackage) -> Sequence[Result]:
        return situation.results.get(package.intent, ())

    stage = Stage(situation.lines, situation.answer, work, policy, remarks=Remarks(situation.remarks))
    await stage.run(situation.duration_ms)
    tasks = {package.intent: package.task_id for package in stage.background.packages}
    return [
        *_misplaced(situation, _woven(stage)),
        *_over_the_user(situation, stage),
        *_wrong_fates(situation, stage, tasks),
        *_wrong_promises(situation, stage, tasks),
    ]


def _woven(stage: Stage) -> list[SpeechBegan]:
    return [event for event in stage.seen(SpeechBegan) if event.source == "woven"]


def _misplaced(situation: Situation, said: Sequence[SpeechBegan]) -> list[str]:
    texts, wanted = [event.text for event in said], [each.text for each in situation.expected]
    if texts != wanted:
        return [f"said {texts!r} instead of {wanted!r}"]
    return [
        f"said {began.text!r} at {began.at_ms:.0f} ms instead of {each.at_ms} to {each.at_ms + each.within_ms} ms"
        for began, each in zip(said, situation.expected, strict=True)
        if not each.at_ms <= began.at_ms <= each.at_ms + each.within_ms
    ]


def _over_the_user(situation: Situation, stage: Stage) -> list[str]:
    interrupts = {
        event.speech.text
        for event in stage.background.arrived
        if event.speech is not None and event.speech.mode == "interrupt"
    }
    return [
        f"said {began.text!r} over the user's voice"
        for began in _woven(stage)
        for line in situation.lines
        if line.start_ms + TOLERANCE_MS < began.at_ms < line.end_ms
        and not any(text in began.text for text in interrupts)
    ]


def _wrong_fates(situation: Situation, stage: Stage, tasks: Mapping[str, str]) -> list[str]:
    fates: dict[tuple[str, int], list[str]] = {}
    for event in stage.seen(ReceiptIssued):
        fates.setdefault((event.receipt.task_id, event.receipt.seq), []).append(event.receipt.state)
    twice = [
        f"piece {seq} has two fates: {states!r}"
        for (_, seq), states in fates.items()
        if sum(state in SETTLED for state in states) > 1
    ]
    wrong = []
    for intent, wanted in situation.fates.items():
        mine = sorted(
            (seq, states[-1]) for (task_id, seq), states in fates.items() if task_id == tasks.get(intent)
        )
        if [state for _, state in mine] != list(wanted):
            wrong.append(f"the pieces of {intent!r} are {mine!r} instead of {list(wanted)!r}")
    return twice + wrong


def _wrong_promises(situation: Situation, stage: Stage, tasks: Mapping[str, str]) -> list[str]:
    stored = stage.background.promises
    twice = [
        f"the promise of a task was settled {len(states)} times"
        for task_id in tasks.values()
        if len(states := [state for owner, state in stored if owner == task_id]) > 1
    ]
    found = dict(stored)
    return twice + [
        f"the promise of {intent!r} is {found.get(tasks.get(intent, ''), 'open')!r} instead of {wanted!r}"
        for intent, wanted in situation.promises.items()
        if found.get(tasks.get(intent, ""), "open") != wanted
    ]
