"""Timers and reminders: words that are spoken later, on the session's own time.

A timer returns at once. The runtime says its sentence when it is due, counted from the moment at which the user
stopped speaking, so that "in ten seconds" is ten seconds for the user, however long the thinking took.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, JsonValue

from microturn.protocols import Speech
from microturn.tools import Phrase, Spoken, ToolContext, ToolRetry, tool
from microturn.tools.builtin.number_words import digits_for_words
from microturn.tools.builtin.timer_book import Timer, TimerBook

REMINDER_PRIORITY = 10
_LABEL_LIMIT = 40

_VERB_LIST = (
    "add answer ask bake be book boil breathe bring brush buy call change charge check clean close collect "
    "come continue cook drink eat empty exercise feed fetch find finish fix flip fold get give go grab have "
    "head hang help iron join keep leave let listen look make meditate meet move open order pack pay pick "
    "play post practise practice prepare print pull put read remove rest return ring run save say see sell "
    "send set share shower sign sit sleep start stand stir stop stretch study take talk tell test text thank "
    "tidy train turn unload unplug use visit wake walk wash watch water wear work write"
)
_VERBS = frozenset(_VERB_LIST.split())
_TO_THE_LISTENER = {
    "my": "your",
    "me": "you",
    "mine": "yours",
    "myself": "yourself",
    "our": "your",
    "i": "you",
}
_NOT_IN_LABELS = frozenset({"a", "an", "my", "reminder", "the", "timer", "to"})
_SENTENCE = re.compile(
    r"(?i)^time (?:to|for)\b|\b(?:is|are|has|have|will|was|should|must|need|needs)\b|n't\b"
)


_SECONDS_IN = {"second": 1, "minute": 60, "hour": 3600}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?|an?)\s+(?:and a half\s+)?(second|minute|hour)s?")


def _timer(named: Mapping[str, str]) -> dict[str, JsonValue] | None:
    """The arguments that a phrase names; None where the time is no length of time."""
    said = re.sub(r"\bhalf an hour\b", "30 minutes", digits_for_words(named["time"]))
    parts = [part for part in re.split(r"\s+and\s+|\s*,\s*", said) if part]
    lengths = [_LENGTH.fullmatch(part) for part in parts]
    seconds = 0.0
    for length in lengths:
        if length is None:
            return None
        count = 1.0 if length[1] in {"a", "an"} else float(length[1])
        seconds += count * _SECONDS_IN[length[2]]
    return {"seconds": seconds, "message": named.get("message", "")} if seconds else None


_REMIND = "(remind me|tell me|give me a reminder)"


@tool(
    timeout_s=10.0,
    side_effect="idempotent",
    phrases=[
        Phrase(f"{_REMIND} in {{time}} (to|that|about) {{message}}", _timer),
        Phrase(f"{_REMIND} (to|that|about) {{message}} in {{time}}", _timer),
        Phrase("in {time} (remind|tell) me (to|that|about) {message}", _timer),
        Phrase("(set|start) (a|the|another) timer (for|of) {time} [for {message}]", _timer),
        Phrase("(set|start) (a|an|the) {time} timer", _timer),
    ],
)
async def set_timer(
    context: ToolContext,
    seconds: Annotated[float, Field(gt=0, le=86_400)],
    message: Annotated[str, Field(max_length=300)] = "",
    label: Annotated[str, Field(max_length=_LABEL_LIMIT)] = "",
) -> Spoken:
    """Set a timer, or remind the user of something after a time. Returns at once.

    Args:
        seconds: Seconds from now until it is due.
        message: What to remind of, such as "stretch" or "take out the pizza"; leave it out for a plain timer.
        label: A short name to cancel it by; made from the message where it is left out.
    """
    now_ms = context.package.said_end_ms
    length = spoken_duration(seconds)
    timer = await _book(context).add(
        _plain_label(label or message or length),
        now_ms + round(seconds * 1000),
        context.idempotency_key,
        now_ms,
    )
    await context.say(
        Speech(
            text=reminder(message) if message.strip() else f"Your timer for {length} is done.",
            mode="interrupt",
            priority=REMINDER_PRIORITY,
            not_before_ms=timer.due_ms,
            supersede_key=_key(timer),
        )
    )
    say = f"Okay, I will remind you in {length}." if message.strip() else f"Okay, {length}, starting now."
    return Spoken(
        text=f"Timer {timer.label!r} is set and will be spoken in {length}. Nothing more to do.", say=say
    )


@tool(timeout_s=10.0, side_effect="idempotent")
async def cancel_timer(context: ToolContext, label: str = "") -> Spoken:
    """Cancel a running timer or reminder.

    Args:
        label: Its name; leave it out where only one is running.
    """
    book = _book(context)
    timer = await book.cancelled_by(context.idempotency_key)
    if timer is None:
        running = await book.running(context.package.said_end_ms)
        timer = _chosen(running, _plain_label(label) if label.strip() else "")
    await context.say(Speech(text="The timer is cancelled.", mode="silent", supersede_key=_key(timer)))
    await book.cancel(timer, context.idempotency_key)
    return Spoken(text=f"Timer {timer.label!r} is cancelled.", say="Okay, I have cancelled that timer.")


@tool(
    timeout_s=10.0,
    phrases=["(list|what are|tell me) my timers", "how much time is left", "what timers are running"],
)
async def list_timers(context: ToolContext) -> Spoken:
    """List the timers and reminders that are running, with the time that is left."""
    now_ms = context.package.said_end_ms
    running = await _book(context).running(now_ms)
    if not running:
        return Spoken(text="No timer is running.", say="No timer is running.")
    left = [f"{timer.label}: {spoken_duration((timer.due_ms - now_ms) / 1000)} left" for timer in running]
    count = "One timer is" if len(running) == 1 else f"{len(running)} timers are"
    return Spoken(text="\n".join(left), say=f"{count} running. {'. '.join(left[:3])}.".replace(":", ","))


def reminder(message: str) -> str:
    """Make a sentence of what the user wants to be reminded of: "stretch" becomes "Time to stretch." """
    plain = " ".join(message.split()).strip(" .")
    plain = re.sub(r"(?i)^(?:please |remind me |that )*(?:to )?", "", plain)
    words = [_TO_THE_LISTENER.get(word.lower(), word) for word in plain.split()]
    text = " ".join(words)
    first = words[0].lower() if words else ""
    if first in _VERBS and not plain.endswith(("!", "?")):
        return f"Time to {text[:1].lower()}{text[1:]}."
    if plain.endswith(("!", "?")) or _SENTENCE.search(plain):
        return text[:1].upper() + text[1:] + ("" if plain.endswith(("!", "?")) else ".")
    if first in {"the", "a", "an", "your"}:
        return f"Time for {text[:1].lower()}{text[1:]}."
    return f"Here is your reminder: {text}."


def spoken_duration(seconds: float) -> str:
    """Say a length of time: "ten seconds" as "10 seconds", 90 as "1 minute and 30 seconds"."""
    if seconds < 1:
        return f"{seconds:.2g} seconds"
    left = round(seconds)
    parts = []
    for name, size in (("hour", 3600), ("minute", 60), ("second", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}" if count == 1 else f"{count} {name}s")
    return " and ".join(parts) if len(parts) < 3 else f"{parts[0]}, {parts[1]} and {parts[2]}"


def _book(context: ToolContext) -> TimerBook:
    return TimerBook(context.data_dir, context.package.session_id)


def _key(timer: Timer) -> str:
    return f"timer:{timer.label}"


def _plain_label(text: str) -> str:
    words = [word for word in re.findall(r"\w+", text.lower()) if word not in _NOT_IN_LABELS]
    return " ".join(words)[:_LABEL_LIMIT].strip() or "timer"


def _chosen(running: list[Timer], label: str) -> Timer:
    """Pick the timer that is meant: by its name, by a part of it, or the only one."""
    if not running:
        raise ToolRetry("no timer is running")
    if label:
        exact = [timer for timer in running if timer.label == label]
        found = exact or [timer for timer in running if label in timer.label]
    else:
        found = running
    if len(found) == 1:
        return found[0]
    names = ", ".join(repr(timer.label) for timer in running)
    raise ToolRetry(f"give the `label` of the one timer that is meant; running are {names}")
