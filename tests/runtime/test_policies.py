"""The table of situations: who speaks when, what comes back when, and what must be said when."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from microturn.protocols import EventKind, Speech, WeaveMode
from microturn.runtime.delegation import corrected
from microturn.runtime.testing.scripted_background import Result
from microturn.runtime.testing.scripted_model import UserLine
from microturn.runtime.testing.situations import Said, Situation, play
from microturn.runtime.weave_policy import Courteous, Moment, Waiting

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

TEN = "One two three four five six seven eight nine ten."
ASKS = UserLine(0, 1000, "what is it?")
"""Handed over at 1,000 ms; the opening words last until 1,800 ms."""


def final(after_ms: float, text: str, mode: WeaveMode = "pause", **rules: object) -> Result:
    return result(after_ms, "final", text, mode, **rules)


def partial(after_ms: float, text: str, mode: WeaveMode = "pause", **rules: object) -> Result:
    return result(after_ms, "partial", text, mode, **rules)


def progress(after_ms: float, text: str, mode: WeaveMode = "pause", **rules: object) -> Result:
    return result(after_ms, "progress", text, mode, **rules)


def result(after_ms: float, kind: EventKind, text: str, mode: WeaveMode, **rules: object) -> Result:
    revision = rules.pop("revision", None)
    speech = Speech.model_validate({"text": text, "mode": mode, **rules})
    assert revision is None or isinstance(revision, int)
    return Result(after_ms, kind, speech, revision)


def one(
    name: str,
    *results: Result,
    said: tuple[Said, ...],
    lines: tuple[UserLine, ...] = (),
    fates: Sequence[str] | None = None,
    promise: str | None = None,
    duration_ms: int = 15_000,
    remarks: tuple[str, ...] = (),
) -> Situation:
    """A situation with one task, named by the question that everybody asks first."""
    task = ASKS.text
    return Situation(
        name,
        (ASKS, *lines),
        {task: results},
        said,
        fates={task: fates} if fates is not None else {},
        promises={task: promise} if promise is not None else {},
        duration_ms=duration_ms,
        remarks=remarks,
    )


CORRECTED = corrected("what is it?", ["no, Paris"])

TABLE = (
    one(
        "a result in silence is said at once",
        final(4000, "A cat."),
        said=(Said("A cat.", 5000),),
        fates=["heard"],
        promise="spoken",
    ),
    one("a result waits for the assistant's own words", final(100, "A cat."), said=(Said("A cat.", 1600),)),
    one(
        "a result waits for the end of what the user says",
        final(3500, "A cat."),
        lines=(UserLine(4000, 7000, "I am cooking"),),
        said=(Said("A cat.", 7000),),
    ),
    one(
        "a final that comes in a thinking pause waits for the rest of the sentence",
        final(4500, "A cat."),
        lines=(UserLine(4000, 5000, "and then", finished=False), UserLine(6200, 7000, "I went")),
        said=(Said("A cat.", 7000),),
    ),
    one(
        "a sentence that is never finished becomes a pause after two and a half seconds",
        final(4500, "A cat."),
        lines=(UserLine(4000, 5000, "and then", finished=False),),
        said=(Said("A cat.", 7400, 400),),
    ),
    Situation(
        "two results that come together are said one after the other, not by turns",
        (UserLine(0, 1000, "first?"), UserLine(2200, 3000, "second?")),
        {
            "first?": [partial(4000, "One."), final(4050, "Two.")],
            "second?": [partial(2010, "Three."), final(2060, "Four.")],
        },
        (Said("One.", 5000), Said("Two.", 5400), Said("Three. Four.", 5800, 400)),
        promises={"first?": "spoken", "second?": "spoken"},
    ),
    Situation(
        "a task that is being told goes on before another one that waited longer",
        (UserLine(0, 1000, "first?"), UserLine(2200, 3000, "second?"), UserLine(5400, 6600, "I see")),
        {
            "first?": [partial(3800, "One."), final(5300, "Two.")],
            "second?": [final(3000, "Three.")],
        },
        (Said("One.", 4800, 400), Said("Two.", 6600, 200), Said("Three.", 7000, 600)),
    ),
    Situation(
        "what has priority is said first, whatever came first",
        (UserLine(0, 1000, "first?"), UserLine(2200, 3000, "second?"), UserLine(4000, 6000, "I am cooking")),
        {"first?": [final(3300, "Later.")], "second?": [final(2500, "Sooner.", priority=5)]},
        (Said("Sooner.", 6000), Said("Later.", 6400, 600)),
    ),
    one(
        "what interrupts is said over the user",
        final(4500, "Fire!", "interrupt"),
        lines=(UserLine(4000, 9000, "a long story"),),
        said=(Said("Fire!", 5600),),
        duration_ms=5800,
    ),
    one(
        "what interrupts and is cut off by the user is offered again",
        final(3000, "Fire in the kitchen!", "interrupt"),
        lines=(UserLine(4500, 5000, "what"),),
        said=(Said("Fire in the kitchen!", 4000), Said("As I was saying: Fire in the kitchen!", 6400, 600)),
        fates=["heard"],
        promise="spoken",
    ),
    one(
        "what interrupts goes before what waits for a pause",
        partial(3500, "A cat."),
        final(3600, "Fire!", "interrupt"),
        lines=(UserLine(4000, 5800, "I am cooking"),),
        said=(Said("Fire!", 4600),),
        duration_ms=4800,
    ),
    one(
        "a reminder that is due while the user speaks is said at its time",
        partial(500, "Stretch.", "interrupt", not_before_ms=6000),
        Result(600, "final"),
        lines=(UserLine(4000, 9000, "a long story"),),
        said=(Said("Stretch.", 6000),),
        duration_ms=6200,
    ),
    one(
        "a reminder in silence is said at its time and keeps the promise open until then",
        partial(500, "Stretch.", "interrupt", not_before_ms=9000),
        final(600, "Okay."),
        said=(Said("Okay.", 1600, 400), Said("Stretch.", 8900, 300)),
        fates=["heard", "heard"],
        promise="spoken",
    ),
    one(
        "a reminder for later leaves the promise open",
        partial(500, "Stretch.", "interrupt", not_before_ms=90_000),
        final(600, "Okay."),
        said=(Said("Okay.", 1600, 400),),
        promise="open",
    ),
    one(
        "what is for idle times waits for a longer silence",
        final(100, "By the way.", "idle"),
        said=(Said("By the way.", 3200, 400),),
    ),
    one(
        "what is silent is never said, and keeps its promise",
        final(100, "A note.", "silent"),
        said=(),
        fates=["dropped"],
        promise="spoken",
    ),
    one(
        "a task that ends without a word has kept its promise",
        Result(500, "final"),
        said=(),
        promise="spoken",
    ),
    one(
        "an expired piece is not said",
        final(2500, "Now.", expires_ms=5000),
        lines=(UserLine(3000, 8000, "I am cooking"),),
        said=(),
        fates=["expired"],
        promise="expired",
    ),
    one(
        "what expires while it is being said is said to its end",
        final(2500, TEN, expires_ms=4500),
        said=(Said(TEN, 3400, 400),),
        fates=["heard"],
        promise="spoken",
    ),
    one(
        "what is superseded while it is being said is said to its end, and not offered again",
        partial(2500, TEN, supersede_key="k"),
        final(4000, "Eleven.", supersede_key="k"),
        said=(Said(TEN, 3400, 400), Said("Eleven.", 6400, 600)),
        fates=["heard", "heard"],
    ),
    one(
        "a newer piece supersedes the one that waits",
        partial(2500, "Old.", supersede_key="k"),
        final(3000, "New.", supersede_key="k"),
        lines=(UserLine(3000, 6000, "I am cooking"),),
        said=(Said("New.", 6000),),
        fates=["superseded", "heard"],
        promise="spoken",
    ),
    one(
        "of several reports only the newest is said",
        progress(2500, "A tenth."),
        progress(3000, "Half."),
        progress(4000, "Nearly all."),
        lines=(UserLine(3000, 6000, "I am cooking"),),
        said=(Said("Nearly all.", 6000),),
        fates=["superseded", "superseded", "heard"],
    ),
    one(
        "a report is worth nothing once the answer is there",
        progress(2500, "Half."),
        final(4000, "A cat."),
        lines=(UserLine(3000, 6000, "I am cooking"),),
        said=(Said("A cat.", 6000),),
        fates=["superseded", "heard"],
        promise="spoken",
    ),
    one(
        "the rest of what was cut off is offered when all is idle",
        final(2000, TEN),
        lines=(UserLine(4500, 5400, "wait"),),
        said=(Said(TEN, 3000), Said(f"As I was saying: {TEN}", 6800, 400)),
        fates=["heard"],
        promise="spoken",
    ),
    one(
        "the rest is dropped after forty-five seconds",
        final(2000, TEN),
        lines=(UserLine(4500, 52_000, "a very long story"),),
        said=(Said(TEN, 3000),),
        fates=["expired"],
        promise="expired",
        duration_ms=56_000,
    ),
    one(
        "what was cut off three times is dropped",
        final(2000, TEN),
        lines=(UserLine(4500, 5000, "hm"), UserLine(7500, 8000, "hm"), UserLine(11_500, 12_000, "hm")),
        said=(
            Said(TEN, 3000),
            Said(f"As I was saying: {TEN}", 6400, 600),
            Said(f"As I was saying: {TEN}", 9400, 800),
        ),
        fates=["dropped"],
        promise="declined",
        duration_ms=20_000,
    ),
    one(
        "the rest goes on where the user says so, together with what came meanwhile",
        partial(2000, TEN),
        final(4900, "Eleven."),
        lines=(UserLine(4500, 5400, "wait"), UserLine(5600, 6000, "go on")),
        said=(Said(TEN, 3000), Said(f"As I was saying: {TEN} Eleven.", 6000)),
        fates=["heard", "heard"],
    ),
    one(
        "the rest is dropped where the user says stop",
        final(2000, TEN),
        lines=(UserLine(4500, 5400, "stop"),),
        said=(Said(TEN, 3000),),
        fates=["dropped"],
        promise="declined",
    ),
    one(
        "a correction before the answer: what still comes of the old one is not said",
        final(4000, "Rome: rain.", revision=0),
        lines=(UserLine(2500, 3200, "no, Paris"),),
        said=(),
        fates=["superseded"],
        promise="open",
        duration_ms=9000,
    ),
    one(
        "a correction that the worker takes in: its answer is said",
        partial(3000, "Rome it is.", revision=0),
        final(5000, "Paris: sun.", revision=1),
        lines=(UserLine(2500, 3200, "no, Paris"),),
        said=(Said("Paris: sun.", 6000),),
        fates=["superseded", "heard"],
        promise="spoken",
    ),
    Situation(
        "a correction while the answer waits: it is given up, and asked anew",
        (ASKS, UserLine(4000, 5200, "no, Paris")),
        {
            "what is it?": [final(3500, "Rome: rain.")],
            CORRECTED: [final(2000, "Paris: sun.")],
        },
        (Said("Paris: sun.", 7200, 400),),
        fates={"what is it?": ["superseded"]},
        promises={"what is it?": "declined", CORRECTED: "spoken"},
    ),
    Situation(
        "a correction while the answer is spoken: the user's voice ends it, and it is not taken up again",
        (ASKS, UserLine(4500, 5200, "no, Paris")),
        {
            "what is it?": [final(2000, TEN)],
            CORRECTED: [final(2000, "Paris: sun.")],
        },
        (Said(TEN, 3000), Said("Paris: sun.", 7200, 400)),
        fates={"what is it?": ["superseded"]},
    ),
    Situation(
        "a correction after the answer was heard: it is asked anew",
        (ASKS, UserLine(6000, 6800, "no, Paris")),
        {
            "what is it?": [final(2000, "Rome: rain.")],
            CORRECTED: [final(2000, "Paris: sun.")],
        },
        (Said("Rome: rain.", 3000), Said("Paris: sun.", 8800, 400)),
        promises={"what is it?": "spoken"},
    ),
    one(
        "nothing of a cancelled task is said",
        partial(2600, "A cat."),
        lines=(UserLine(3000, 4000, "never mind"),),
        said=(),
        fates=["dropped"],
        promise="declined",
    ),
    Situation(
        "results across tasks keep their order within each",
        (UserLine(0, 1000, "first?"), UserLine(2200, 3000, "second?"), UserLine(4000, 7000, "I am cooking")),
        {
            "first?": [partial(3300, "One."), final(5000, "Two.")],
            "second?": [partial(1400, "Three."), final(2500, "Four.")],
        },
        (Said("One. Two.", 7000), Said("Three. Four.", 7600, 600)),
    ),
    one(
        "a failure is told",
        Result(2000, "failed"),
        said=(Said("Something went wrong with what you asked, and I could not finish it.", 3000),),
        promise="failed",
    ),
    one(
        "a promise is open while its answer is being told",
        final(2000, TEN),
        said=(Said(TEN, 3000),),
        promise="open",
        duration_ms=5000,
    ),
    one(
        "a slow background gets a remark, and its answer is said all the same",
        final(20_000, "A cat."),
        said=(Said("Still on it.", 9000, 400), Said("A cat.", 21_000)),
        remarks=("Still on it.", "Not yet."),
        duration_ms=24_000,
    ),
    one(
        "a tool's own report puts the remark off",
        progress(6000, "Half."),
        final(14_000, "A cat."),
        said=(Said("Half.", 7000), Said("A cat.", 15_000)),
        remarks=("Still on it.",),
        duration_ms=18_000,
    ),
)


PATIENT = (
    one(
        "a result in silence is said when it has been quiet for a second",
        final(1000, "A cat."),
        said=(Said("A cat.", 2600, 400),),
    ),
    one("what interrupts does not wait", final(100, "Fire!", "interrupt"), said=(Said("Fire!", 1200, 400),)),
    one(
        "a short silence of the user is left to the user",
        final(3500, "A cat."),
        lines=(UserLine(4000, 5000, "I am"), UserLine(5600, 7000, "cooking")),
        said=(Said("A cat.", 8000, 200),),
    ),
)


@pytest.mark.parametrize("situation", PATIENT, ids=lambda situation: situation.name)
async def test_a_courteous_policy_waits_for_a_longer_silence(situation: Situation) -> None:
    assert await play(situation, Courteous(quiet_ms=1000)) == []


async def test_the_harness_says_what_was_said_at_the_wrong_time_or_not_at_all() -> None:
    late = one("late", final(1000, "A cat."), said=(Said("A cat.", 9000),))
    missing = one("missing", said=(Said("A cat.", 2000),))
    (complaint,) = await play(late)
    assert complaint == "said 'A cat.' at 2000 ms instead of 9000 to 9200 ms"
    assert await play(missing) == ["said [] instead of ['A cat.']"]


async def test_the_harness_finds_a_policy_that_talks_over_the_user() -> None:
    class Rude:
        def choose(self, waiting: Sequence[Waiting], moment: Moment) -> list[Waiting]:
            return [*waiting][:1]

    over = one(
        "over",
        final(3500, "A cat."),
        lines=(UserLine(4000, 7000, "I am"),),
        said=(Said("A cat.", 4600),),
        duration_ms=5000,
    )
    assert await play(over, Rude()) == ["said 'A cat.' over the user's voice"]


async def test_the_harness_finds_a_fate_and_a_promise_that_are_not_as_expected() -> None:
    wrong = one(
        "wrong", final(1000, "A cat."), said=(Said("A cat.", 2000),), fates=["dropped"], promise="declined"
    )
    assert [complaint.split(" ")[0:2] for complaint in await play(wrong)] == [
        ["the", "pieces"],
        ["the", "promise"],
    ]


@pytest.mark.parametrize("situation", TABLE, ids=lambda situation: situation.name)
async def test_what_must_be_said_is_said_when_it_must_be(situation: Situation) -> None:
    assert await play(situation) == []
