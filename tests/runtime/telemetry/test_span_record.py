"""The record of spans on the disk: what was written is read again, it stays bounded, and torn lines harm nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from microturn.protocols import telemetry_names as names
from microturn.runtime.telemetry.span_record import (
    SpanEvent,
    SpanFiles,
    SpanLink,
    SpanRecord,
    read_spans,
    spans_of_task,
)

pytestmark = pytest.mark.unit

SPAN = SpanRecord(
    name=names.PROCESS_SPAN,
    trace_id="0af7651916cd43dd8448eb211c80319c",
    span_id="b7ad6b7169203331",
    parent="00f067aa0ba902b7",
    links=(SpanLink("0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"),),
    start_ns=1_000_000_000,
    end_ns=1_250_000_000,
    status="unset",
    attributes={names.MESSAGE_ID: "task-1", names.DELEGATION_ATTEMPT: 1},
    events=(SpanEvent("piece sent", 1_100_000_000, {names.EVENT_SEQ: 1}),),
    resource={"service.name": "microturn", "process.pid": 7},
)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    SpanFiles(tmp_path).write([SPAN])
    assert read_spans(tmp_path) == [SPAN]
    assert SPAN.duration_ms == 250


def test_spans_of_several_processes_are_read_in_the_order_of_their_start(tmp_path: Path) -> None:
    later = replace(SPAN, span_id="1" * 16, start_ns=2_000_000_000, end_ns=2_000_000_001)
    SpanFiles(tmp_path).write([later])
    SpanFiles(tmp_path).write([SPAN])
    assert read_spans(tmp_path) == [SPAN, later]
    assert len(list(tmp_path.iterdir())) == 2


def test_of_an_attempt_that_is_told_twice_the_longer_one_is_kept(tmp_path: Path) -> None:
    stand_in = replace(SPAN, end_ns=SPAN.start_ns, status="error")
    SpanFiles(tmp_path).write([SPAN, stand_in])
    assert read_spans(tmp_path) == [SPAN]


def test_a_torn_line_is_skipped(tmp_path: Path) -> None:
    SpanFiles(tmp_path).write([SPAN])
    (file,) = tmp_path.iterdir()
    with file.open("a") as more:
        more.write(SPAN.to_line()[:40] + "\n[]\n{}\n")
    assert read_spans(tmp_path) == [SPAN]


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_spans(tmp_path / "none") == []
    assert spans_of_task(tmp_path / "none", "task-1") == []


def test_a_task_leads_to_its_whole_trace_and_to_no_other(tmp_path: Path) -> None:
    tool = replace(SPAN, name="execute_tool clock", span_id="2" * 16, attributes={}, start_ns=1_100_000_000)
    other = replace(SPAN, trace_id="f" * 32, attributes={names.MESSAGE_ID: "task-12"})
    SpanFiles(tmp_path).write([other, SPAN, tool])
    assert spans_of_task(tmp_path, "task-1") == [SPAN, tool]


def test_the_oldest_files_go_when_the_folder_is_full(tmp_path: Path) -> None:
    files = SpanFiles(tmp_path, file_bytes=2_000, folder_bytes=6_000)
    written = [replace(SPAN, span_id=f"{number:016x}", start_ns=number) for number in range(1, 60)]
    for span in written:
        files.write([span])
    kept = read_spans(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 6_000 + 2_000 + len(SPAN.to_line())
    assert kept == written[-len(kept) :]
    assert 3 < len(kept) < 30
