"""Whole micro-turns of the native model, measured: of one session with little and much behind it, and of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from native_figures import Rows, Spans
from native_stage import FIRST_TURN, HEARD, SAID, TOKENS_A_MINUTE, Stage, given, move_on, pictures, sound

from microturn.interaction_model.native.emission import MAX_OUTPUT_TOKENS
from microturn.interaction_model.native.grammar import AUDIO_TOKENS
from microturn.interaction_model.native.session import NativeSession
from microturn.protocols import MicroTurnInput

BURST = 3
APART = 7
"""Tokens by which sessions in one step differ, as sessions do."""
"""Micro-turns of a case before its sessions go back to where they were; a rewind reaches 256 tokens. They go on by one
token each time, as kernels keep masks of places that they have seen."""
SILENT_POSITIONS = AUDIO_TOKENS + 1
SEEING_POSITIONS = SILENT_POSITIONS + 12
"""With the patches of 160 x 120 pixels; larger pictures are made as small."""
LATE_TURNS = 5
SMALL_PICTURES = pictures(160, 120)
LARGE_PICTURES = pictures(320, 240)
TYPED = ("what is the weather in london tomorrow",)
READ_POSITIONS = 1 + 7
"""A mark and the words of `TYPED`."""
MOST_POSITIONS = SEEING_POSITIONS + READ_POSITIONS + MAX_OUTPUT_TOKENS
SEEING = "talking, seeing 160 x 120"
BEHIND = "10 min behind it"


class WrongWorkError(AssertionError):
    """A case did not do what its name says, so its time means nothing."""


@dataclass(frozen=True)
class Kind:
    """What happens in the micro-turns of a burst."""

    name: str
    inputs: tuple[MicroTurnInput, ...]
    scripts: tuple[tuple[int, ...], ...]
    positions: int
    """Tokens by which a session grows in each."""
    sounds: bool = False
    """Whether the mouth must be heard in each."""


@dataclass(frozen=True)
class Case:
    """A kind of micro-turn of some sessions in one step."""

    name: str
    kind: Kind
    sessions: tuple[NativeSession, ...]
    spans: Spans


def kinds() -> dict[str, Kind]:
    """What is measured with one session, by name."""
    turns = range(FIRST_TURN, FIRST_TURN + BURST)
    silent = tuple(map(given, turns))
    talk = tuple((SAID[0],) if n % 2 == 0 else (HEARD[0],) for n in range(BURST))
    small = tuple(given(turn, SMALL_PICTURES) for turn in turns)
    large = tuple(given(turn, LARGE_PICTURES) for turn in turns)
    most = tuple(given(turn, LARGE_PICTURES, TYPED) for turn in turns)
    full = ((SAID[0], *HEARD[1:]),) * BURST
    late = (MicroTurnInput(FIRST_TURN + LATE_TURNS - 1, sound(LATE_TURNS)),)
    listed = (
        Kind("silent", silent, ((),) * BURST, SILENT_POSITIONS),
        Kind("talking", silent, talk, SILENT_POSITIONS + 1, sounds=True),
        Kind(SEEING, small, talk, SEEING_POSITIONS + 1, sounds=True),
        Kind("talking, seeing 320 x 240", large, talk, SEEING_POSITIONS + 1, sounds=True),
        Kind("the most: 320 x 240, 7 words read, 8 tokens", most, full, MOST_POSITIONS, sounds=True),
        Kind(f"{LATE_TURNS} silent micro-turns at once", late, ((),), LATE_TURNS * SILENT_POSITIONS),
    )
    return {kind.name: kind for kind in listed}


def one_session(stage: Stage, rounds: int) -> Rows:
    """All kinds with ten minutes of context, and silence with less."""
    found = kinds()
    fresh, minute = stage.opened("0", 0), stage.opened("1", TOKENS_A_MINUTE)
    long = stage.opened("10", 10 * TOKENS_A_MINUTE)
    cases = [
        Case("silent, nothing behind it", found["silent"], (fresh,), Spans()),
        Case("silent, 1 min behind it", found["silent"], (minute,), Spans()),
        *(Case(f"{name}, {BEHIND}", kind, (long,), Spans()) for name, kind in found.items()),
    ]
    play(stage, cases, rounds)
    stage.model.close()
    return {case.name: case.spans.row() for case in cases}


def several_sessions(stage: Stage, rounds: int, most: int = 4) -> Rows:
    """1 to 4 sessions in one step, each with ten minutes of its own."""
    found = kinds()
    sessions = tuple(stage.opened(str(n), 10 * TOKENS_A_MINUTE + APART * n) for n in range(most))
    cases = [
        Case(f"{count} x {name}", found[name], sessions[:count], Spans())
        for name in ("silent", SEEING)
        for count in range(1, most + 1)
    ]
    play(stage, cases, rounds)
    stage.model.close()
    return {case.name: case.spans.row() for case in cases}


def play(stage: Stage, cases: Sequence[Case], rounds: int) -> None:
    """Let all cases take turns, burst by burst; the first round warms up.

    Raises:
        WrongWorkError: a session grew by another number of tokens, or was silent where it should have been heard.
    """
    for number in range(rounds + 1):
        for case in cases:
            _burst(stage, case, case.spans if number else Spans())


def _burst(stage: Stage, case: Case, spans: Spans) -> None:
    before = [session.snapshot() for session in case.sessions]
    for given_now, script in zip(case.kind.inputs, case.kind.scripts, strict=True):
        stage.emitter.script = script
        inputs = [(session, given_now) for session in case.sessions]
        lengths = [session.state.length for session in case.sessions]
        outputs = spans.time(partial(stage.model.step, inputs))
        grown = [session.state.length - was for session, was in zip(case.sessions, lengths, strict=True)]
        heard = [bool(output.audio.any()) for output in outputs]
        _check(case, grown, heard)
    for session, place in zip(case.sessions, before, strict=True):
        session.rewind(place)
        move_on(stage.model.decoder, session.state)


def _check(case: Case, grown: Sequence[int], heard: Sequence[bool]) -> None:
    wanted = [case.kind.positions] * len(case.sessions), [case.kind.sounds] * len(case.sessions)
    if (list(grown), list(heard)) != wanted:
        raise WrongWorkError(f"{case.name}: expected tokens and sound {wanted}, got {(grown, heard)}")
