"""The life of a delegation, put together from its spans."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from microturn.protocols import telemetry_names as names
from microturn.runtime.cli import main
from microturn.runtime.delegation_life import Life, life_of, lives
from microturn.runtime.delegation_report import report, table
from microturn.runtime.telemetry.span_record import SpanEvent, SpanFiles, SpanRecord, Value

pytestmark = pytest.mark.unit

TRACE = "ab" * 16
BEGAN_NS = 1_790_000_000_000_000_000
TASK = "0123456789abcdef"


def span(
    name: str,
    begin_ms: float,
    end_ms: float,
    parent: str | None = None,
    *,
    status: str = "unset",
    events: tuple[SpanEvent, ...] = (),
    trace_id: str = TRACE,
    **attributes: Value,
) -> SpanRecord:
    return SpanRecord(
        name=name,
        trace_id=trace_id,
        span_id=f"{name}@{begin_ms}",
        parent=parent,
        links=(),
        start_ns=BEGAN_NS + round(begin_ms * 1e6),
        end_ns=BEGAN_NS + round(end_ms * 1e6),
        status="error" if status == "error" else "unset",
        attributes={key.replace("__", "."): value for key, value in attributes.items()},
        events=events,
        resource={"service.instance.id": "worker-7"},
    )


def of_task(name: str, begin_ms: float, end_ms: float, task_id: str = TASK, **more: Value) -> SpanRecord:
    given: dict[str, Value] = {"messaging__message__id": task_id, **more}
    return span(name, begin_ms, end_ms, **given)  # type: ignore[arg-type]  # because mypy takes each for any of them


def piece(
    seq: int, begin_ms: float, end_ms: float, outcome: str, wait_s: float | None, heard: int
) -> SpanRecord:
    record = of_task(names.WEAVE_SPAN, begin_ms, end_ms)
    attributes = {
        **record.attributes,
        names.EVENT_SEQ: seq,
        names.WEAVE_OUTCOME: outcome,
        names.WORDS_HEARD: heard,
        names.WORDS_TOTAL: 6,
        **({names.WEAVE_WAIT: wait_s} if wait_s is not None else {}),
    }
    return replace(record, attributes=attributes)


def a_delegation() -> list[SpanRecord]:
    """Said for 1 s, queued for 0.1 s, worked on for 2 s of which a model 1.2 s and a tool 0.4 s, then said."""
    attempt = of_task(
        names.PROCESS_SPAN,
        1100,
        3100,
        gen_ai__conversation__id="kitchen",
        gen_ai__agent__name="default",
        microturn__delegation__attempt=1,
        microturn__delegation__state="final",
    )
    event = SpanEvent(
        names.PIECE_EVENT, BEGAN_NS + 3_050_000_000, {names.EVENT_SEQ: 4, names.EVENT_KIND: "final"}
    )
    attempt = replace(attempt, events=(event,))
    agent = span("invoke_agent default", 1110, 3090, attempt.span_id, gen_ai__operation__name="invoke_agent")
    return [
        of_task(names.TURN_SPAN, 0, 1000, gen_ai__conversation__id="kitchen"),
        of_task(names.SEND_SPAN, 1000, 1000, gen_ai__agent__name="default"),
        attempt,
        agent,
        span(
            *("chat small", 1200, 2000, agent.span_id),
            gen_ai__operation__name="chat",
            gen_ai__usage__input_tokens=812,
            gen_ai__usage__output_tokens=30,
        ),
        span(
            *("execute_tool weather", 2000, 2400, agent.span_id),
            status="error",
            error__type="tool_error",
            gen_ai__operation__name="execute_tool",
        ),
        span("chat small", 2400, 2800, agent.span_id, gen_ai__operation__name="chat"),
        piece(4, 3150, 5150, "heard", 0.5, 6),
    ]


def life(spans: list[SpanRecord]) -> Life:
    found = life_of(spans)
    assert found is not None
    return found


def shown(found: Life, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115  # because nobody reads it
    with console.file:
        for part in report(found):
            console.print(part)
    return console.export_text()


def test_the_moments_come_in_order_of_time_from_the_first_word_said_to_the_last_word_heard() -> None:
    found = life(a_delegation())
    assert (found.task_id, found.session_id, found.agent) == (TASK, "kitchen", "default")
    assert (found.state, found.attempts, found.words_heard, found.words_total) == ("final", 1, 6, 6)
    assert found.took_ms == pytest.approx(5150)
    assert [(round(moment.at_ms), moment.what) for moment in found.moments] == [
        (0, "the user's words begin"),
        (1000, "handed over to the agent default"),
        (1100, "attempt 1: taken by worker worker-7"),
        (1110, "invoke_agent default"),
        (1200, "chat small (812 tokens in, 30 out)"),
        (2000, "execute_tool weather: tool_error"),
        (2400, "chat small"),
        (3050, "event 4 sent: final"),
        (3100, "attempt 1 over: final"),
        (3150, "piece 4 arrives and waits for a pause"),
        (3650, "piece 4 is woven into speech"),
        (5150, "piece 4 heard, to word 6 of 6"),
    ]
    assert [moment.depth for moment in found.moments if "chat" in moment.what] == [2, 2]
    assert [moment.what for moment in found.moments if moment.is_bad] == ["execute_tool weather: tool_error"]


def test_a_question_is_told_from_other_events_and_its_answer_from_a_refusal() -> None:
    spans = a_delegation()
    asked: dict[str, Value] = {names.EVENT_SEQ: 2, names.EVENT_KIND: "partial", names.SPEECH_KIND: "question"}
    told: dict[str, Value] = {names.EVENT_SEQ: 3, names.EVENT_KIND: "partial", names.SPEECH_KIND: "fact"}
    events = (
        SpanEvent(names.PIECE_EVENT, BEGAN_NS + 1_200_000_000, asked),
        SpanEvent(
            names.ANSWER_EVENT,
            BEGAN_NS + 1_300_000_000,
            {names.QUESTION_SEQ: 2, names.IS_ANSWERED: True},
        ),
        SpanEvent(
            names.ANSWER_EVENT,
            BEGAN_NS + 1_400_000_000,
            {names.QUESTION_SEQ: 7, names.IS_ANSWERED: False},
        ),
        SpanEvent(names.PIECE_EVENT, BEGAN_NS + 1_500_000_000, told),
    )
    spans[2] = replace(spans[2], events=events)
    found = life(spans)
    assert [
        (moment.at_ms, moment.what) for moment in found.moments if moment.what[:5] in ("event", "quest")
    ] == [
        (1200, "event 2 sent: partial, a question to the user"),
        (1300, "question 2 is answered"),
        (1400, "question 7 stays open: the user does not want to answer"),
        (1500, "event 3 sent: partial"),
    ]
    assert max(map(len, shown(found).splitlines())) <= 80


def test_every_millisecond_is_counted_to_one_phase() -> None:
    shares = life(a_delegation()).shares_ms
    assert {phase: round(share) for phase, share in shares.items()} == {
        "turn": 1000,
        "queue": 100,
        "agent": 400,
        "model": 1200,
        "tool": 400,
        "pause": 500,
        "speech": 1500,
        "idle": 50,
    }


def test_an_attempt_whose_worker_fell_silent_is_told_and_the_next_one_too() -> None:
    spans = a_delegation()[:2] + [
        of_task(
            names.PROCESS_SPAN,
            1100 * number,
            1100 * number + 500 * (number - 1),
            microturn__delegation__attempt=number,
            microturn__delegation__state=state,
        )
        for number, state in ((1, "lost"), (2, "cancelled"))
    ]
    found = life(spans)
    assert (found.state, found.attempts) == ("cancelled", 2)
    bad = [moment.what for moment in found.moments if moment.is_bad]
    assert bad == ["attempt 1 was lost: its worker fell silent", "attempt 2: taken by worker worker-7"]


def test_a_piece_that_was_cut_off_says_at_which_word_and_one_never_woven_waited_to_its_end() -> None:
    spans = [
        *a_delegation()[:2],
        piece(1, 2000, 4000, "interrupted", 0.5, 2),
        piece(2, 5000, 6000, "expired", None, 0),
    ]
    found = life(spans)
    assert [moment.what for moment in found.moments[-2:]] == [
        "piece 2 arrives and waits for a pause",
        "piece 2 expired",
    ]
    assert "piece 1 interrupted, to word 2 of 6" in [moment.what for moment in found.moments]
    assert found.state == "handed over"
    assert found.shares_ms["pause"] == pytest.approx(1500)


def test_what_was_said_is_shown_only_where_it_was_recorded() -> None:
    spans = a_delegation()
    agent = spans[3]
    spans[3] = replace(agent, attributes={**agent.attributes, names.INTENT: "the weather in\x1b[2J Oulu"})
    text = shown(life(spans))
    assert "the weather in [2J Oulu" in text  # its control code steers no terminal
    assert "Oulu" not in shown(life(a_delegation()))


def test_spans_without_a_parent_that_was_recorded_have_their_place_all_the_same() -> None:
    orphan = span("tools/call weather", 2100, 2300, "never recorded")
    found = life([*a_delegation(), orphan])
    assert any(moment.what == "tools/call weather" for moment in found.moments)


def test_traces_that_are_of_no_delegation_are_left_out() -> None:
    other = span("runtime.flight_record", 0, 1, trace_id="cd" * 16)
    assert [each.task_id for each in lives([other, *a_delegation()])] == [TASK]


def test_the_report_fits_into_80_columns_and_its_bar_is_whole() -> None:
    text = shown(life(a_delegation()))
    assert max(map(len, text.splitlines())) <= 80
    assert max(line.count("█") for line in text.splitlines()) == 60
    for words in ("delegation 0123456789abcdef", "final in 5.15 s, 6 of 6 words heard", "waits for a worker"):
        assert words in text


def test_the_list_has_a_row_for_each_and_fits_into_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    spans = [replace(each, attributes=_long_names(each.attributes)) for each in a_delegation()]
    Console(width=80).print(table([life(spans)]))
    out = capsys.readouterr().out
    for words in ("0123456789ab", "a-very-l", "handed over", "6/6", "5.15 s"):
        assert words in out
    assert "…" not in out


def _long_names(attributes: Mapping[str, Value]) -> dict[str, Value]:
    renamed = dict(attributes)
    for name in (names.CONVERSATION_ID, names.AGENT_NAME):
        if name in renamed:
            renamed[name] = "a-very-long-name-of-something"
    renamed.pop(names.DELEGATION_STATE, None)
    return {**renamed, names.DELEGATION_STATE: "handed over"}


def test_the_words_come_before_the_hand_over_where_both_begin_at_once() -> None:
    turn, send, *rest = a_delegation()
    at_once = replace(turn, start_ns=send.start_ns, end_ns=send.end_ns + 1)
    found = life([send, at_once, *rest])
    assert found.moments[0].what == "the user's words begin"


def test_the_name_of_a_model_that_is_a_files_is_cut() -> None:
    spans = a_delegation()
    spans[4] = replace(spans[4], name=f"chat {'x' * 80}.gguf")
    assert "…" in shown(life(spans))
    assert len([line for line in shown(life(spans)).splitlines() if "x" * 20 in line]) == 1


# The commands, on a record on a disk.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    later = [replace(each, trace_id="cd" * 16, attributes=_other(each.attributes)) for each in a_delegation()]
    SpanFiles(tmp_path / "traces").write([*a_delegation(), *later])
    return tmp_path / "traces"


def _other(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {**attributes, **({names.MESSAGE_ID: "0123zzzz"} if names.MESSAGE_ID in attributes else {})}


def ask(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["microturn", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(str(ended.value.code or 0))


def test_a_delegation_is_shown_by_the_beginning_of_its_id(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "delegation", "show", "01234", "--traces", folder) == 0
    assert "piece 4 heard, to word 6 of 6" in capsys.readouterr().out
    assert ask(monkeypatch, "delegation", "list", "--traces", folder) == 0
    assert capsys.readouterr().out.count("final") == 2


def test_a_delegation_as_json_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "delegation", "show", TASK, "--json", "--traces", folder) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    found = json.loads(out)
    assert found["task_id"] == TASK and found["moments"][0]["what"] == "the user's words begin"


@pytest.mark.parametrize(("name", "why"), [("0123", "2 of them begin so"), ("ffff", "none in it begins so")])
def test_an_id_that_names_none_or_several_is_refused(
    folder: Path, name: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "delegation", "show", name, "--traces", folder) == 1
    assert why in capsys.readouterr().err


def test_an_empty_record_says_how_to_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "delegation", "list", "--traces", tmp_path) == 1
    assert "set MICROTURN_TRACE=1" in capsys.readouterr().err
