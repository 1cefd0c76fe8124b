"""The record of spans on this disk: files of lines, each one ended span as JSON, of which the oldest go first.

With it a delegation can be followed afterwards without any server. Reading and writing need no SDK. Several processes
write into one folder, each into files of its own.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias
from uuid import uuid4

import platformdirs

from microturn.protocols import telemetry_names as names

FILE_BYTES: Final = 2_000_000
"""Size at which a process begins its next file. Our choice."""
FOLDER_BYTES: Final = 32_000_000
"""Size of all files together, beyond which the oldest are deleted. Our choice."""

Value: TypeAlias = str | bool | int | float | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]
SpanStatus: TypeAlias = Literal["unset", "ok", "error"]


@dataclass(frozen=True, slots=True)
class SpanLink:
    """A span in which another one has its cause, though not its parent. Ids are in hexadecimal."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened at one moment of a span."""

    name: str
    time_ns: int
    """Nanoseconds since 1970."""
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One span that has ended. Times are nanoseconds since 1970 by the clock of the process that recorded it."""

    name: str
    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    parent: str | None
    """Span id of the parent; None for the root of a trace."""
    links: tuple[SpanLink, ...]
    start_ns: int
    end_ns: int
    status: SpanStatus
    attributes: Mapping[str, Value]
    events: tuple[SpanEvent, ...]
    resource: Mapping[str, Value]
    """What recorded it: `service.name`, `service.instance.id`, `process.pid`."""
    kind: str = "internal"
    """`internal`, `producer`, `consumer`, `client` or `server`."""

    @property
    def duration_ms(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e6

    def to_line(self) -> str:
        """The line of JSON that stands for it, with its end of line."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> SpanRecord:
        """Read one line.

        Raises:
            ValueError: it is no span, or only the beginning of one.
        """
        try:
            fields = json.loads(line)
            links = tuple(SpanLink(**link) for link in fields.pop("links"))
            events = tuple(SpanEvent(**event) for event in fields.pop("events"))
            return cls(links=links, events=events, **fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a recorded span: {type(error).__name__}") from None


class SpanFiles:
    """Writes spans into a folder. May be used from several threads; blocks for as long as the disk does."""

    def __init__(
        self, folder: Path, *, file_bytes: int = FILE_BYTES, folder_bytes: int = FOLDER_BYTES
    ) -> None:
        self.folder = folder
        self._file_bytes = file_bytes
        self._folder_bytes = folder_bytes
        self._own = f"{os.getpid()}-{uuid4().hex[:8]}"
        self._number = 0
        self._lock = threading.Lock()

    def write(self, spans: Iterable[SpanRecord]) -> None:
        """Append spans, all with one write.

        Raises:
            OSError: the folder cannot be written.
        """
        data = "".join(span.to_line() for span in spans).encode()
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self.folder / f"{self._own}-{self._number:04}.jsonl"
            with path.open("ab") as file:
                file.write(data)
                is_full = file.tell() >= self._file_bytes
            if is_full:
                self._number += 1
                self._delete_oldest()

    def _delete_oldest(self) -> None:
        files = _files(self.folder)
        excess = sum(size for _, _, size in files) - self._folder_bytes
        for _, path, size in files:
            if excess <= 0:
                return
            with suppress(OSError):  # another process was quicker
                path.unlink()
            excess -= size


def traces_folder() -> Path:
    """Where spans are kept unless told otherwise: `traces` in the state folder."""
    return Path(platformdirs.user_state_dir("microturn")) / "traces"


def read_spans(folder: Path, *, trace_id: str | None = None) -> list[SpanRecord]:
    """Read spans, oldest start first, each id once.

    An attempt whose worker fell silent may be there twice, told by its worker and by the attempt that followed; the
    longer one is kept. What is no span, such as a line that a dying process left unfinished, is skipped.

    Args:
        folder: where they are; none that is not there is empty.
        trace_id: 32 hexadecimal digits of the one trace that is wanted; None for all.
    """
    spans: dict[tuple[str, str], SpanRecord] = {}
    for line in _lines(folder, trace_id):
        try:
            span = SpanRecord.from_line(line)
        except ValueError:
            continue
        if trace_id is not None and span.trace_id != trace_id:
            continue
        key = span.trace_id, span.span_id
        if key not in spans or spans[key].duration_ms <= span.duration_ms:
            spans[key] = span
    return sorted(spans.values(), key=lambda span: span.start_ns)


def spans_of_task(folder: Path, task_id: str) -> list[SpanRecord]:
    """Read all spans of the trace of one delegation, oldest start first; empty where none is kept."""
    for line in _lines(folder, task_id):
        try:
            span = SpanRecord.from_line(line)
        except ValueError:
            continue
        if span.attributes.get(names.MESSAGE_ID) == task_id:
            return read_spans(folder, trace_id=span.trace_id)
    return []


def _lines(folder: Path, part: str | None) -> Iterator[str]:
    """Lines of all files that hold a certain part."""
    for _, path, _ in _files(folder):
        with suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as file:
            yield from (line for line in file if part is None or part in line)


def _files(folder: Path) -> list[tuple[int, Path, int]]:
    """Age in nanoseconds since 1970, path and size of each file, oldest first."""
    files: list[tuple[int, Path, int]] = []
    for path in folder.glob("*.jsonl"):
        with suppress(FileNotFoundError):
            stat = path.stat()
            files.append((stat.st_mtime_ns, path, stat.st_size))
    return sorted(files)
