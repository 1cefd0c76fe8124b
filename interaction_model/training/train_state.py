"""The state of a run on disk: written beside its place, brought to the disk, and renamed; the newest two and the best.

A file's name carries the beginning of the SHA-256 of its bytes, so that a file that was cut short or changed is known
before it is read, and the one before it is taken. Holds tensors and plain values only.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from microturn.interaction_model.native.vocabulary import FINGERPRINT
from microturn.interaction_model.training._errors import NoStateError, StateNotWrittenError
from microturn.interaction_model.training.schedule import Schedule

FORMAT = 1
KEPT = 2
"""States that are kept beside the best."""
_NAME = re.compile(r"(?:step|best)-(\d{8})-([0-9a-f]{16})\.pt")
_PIECE_BYTES = 1 << 20

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Totals:
    """What a run has done so far."""

    audio_s: float = 0.0
    """Seconds of sound that were trained on."""
    tokens: int = 0
    elapsed_s: float = 0.0
    """Of training, without saving and looking at held-out scenes."""
    skipped: int = 0
    """Steps whose loss or gradients were not finite."""
    skipped_in_a_row: int = 0


@dataclass(slots=True, kw_only=True)
class TrainState:
    """All that a run needs to go on as if it had not stopped."""

    step: int
    """Steps done."""
    preset: str
    seed: int
    data: str
    """Fingerprint of what decides the order of the data."""
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    """As PyTorch's optimizer gives it."""
    schedule: Schedule
    totals: Totals
    best_loss: float | None
    """The lowest loss on held-out scenes."""
    random: Tensor
    """State of PyTorch's generator on the CPU."""


class StateFolder:
    """The states of one run. One process may write at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def files(self) -> list[Path]:
        """Return the kept states, newest first; without the best, which may be older."""
        return sorted(_states(self.folder, "step"), key=_step_of, reverse=True)

    def best(self) -> Path | None:
        """Return the state that was best on held-out scenes."""
        return max(_states(self.folder, "best"), key=_step_of, default=None)

    def save(self, state: TrainState, *, is_best: bool = False) -> Path:
        """Save a state and remove those that are no longer kept.

        Raises:
            StateNotWrittenError: the disk is full or does not take it; those before it are untouched.
        """
        content = {"format": FORMAT, "vocabulary": FINGERPRINT, **_plain(state)}
        try:
            path = self._write(content, state.step)
            if is_best:
                self._mark_best(path)
        except (OSError, RuntimeError) as error:  # torch.save turns a refused write into a RuntimeError
            raise StateNotWrittenError(self.folder, _reason(error)) from error
        of_step = [old for old in self.files() if old != path and _step_of(old) >= state.step]
        for old in (*of_step, *[file for file in self.files() if file not in of_step][KEPT:]):
            old.unlink()
        return path

    def load_newest(self) -> TrainState:
        """Read the newest state that is whole; a broken one is named in a warning and left out.

        Raises:
            NoStateError: there is none.
        """
        files = self.files()
        best = self.best()
        for path in files if best is None else [*files, best]:
            state = _read(path)
            if state is not None:
                return state
        raise NoStateError(self.folder, broken=len(files))

    def _write(self, content: dict[str, Any], step: int) -> Path:
        beside = self.folder / f".saving-{os.getpid()}"
        try:
            with beside.open("wb") as file:
                hashing = _HashingFile(file)
                torch.save(content, hashing)  # type: ignore[arg-type]  # it asks for `write` and `flush` alone
                file.flush()
                os.fsync(file.fileno())
            path = self.folder / f"step-{step:08d}-{hashing.digest}.pt"
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        _sync_folder(self.folder)
        return path

    def _mark_best(self, path: Path) -> None:
        before = _states(self.folder, "best")
        best = path.with_name(path.name.replace("step-", "best-", 1))
        best.unlink(missing_ok=True)
        try:
            best.hardlink_to(path)
        except OSError:  # some file systems have no links
            shutil.copyfile(path, best)
        for old in before:
            if old != best:
                old.unlink()


class _HashingFile:
    """Passes on what is written, and hashes it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, piece: bytes) -> int:
        self._hash.update(piece)
        return self._file.write(piece)

    def flush(self) -> None:
        self._file.flush()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()[:16]


def _states(folder: Path, kind: str) -> list[Path]:
    return [path for path in folder.glob(f"{kind}-*.pt") if _NAME.fullmatch(path.name)]


def _step_of(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def _read(path: Path) -> TrainState | None:
    try:
        wanted = path.stem.rsplit("-", 1)[1]
        if _digest_of(path) != wanted:
            raise ValueError("its bytes have changed")
        content = torch.load(path, map_location="cpu", weights_only=True)
        return _state_of(content)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        logger.warning("cannot go on from %s (%s); trying the one before", path.name, error)
        return None


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()[:16]


def _plain(state: TrainState) -> dict[str, Any]:
    fields = {name: getattr(state, name) for name in TrainState.__slots__}
    return {**fields, "schedule": asdict(state.schedule), "totals": asdict(state.totals)}


def _state_of(content: dict[str, Any]) -> TrainState:
    if content.pop("format") != FORMAT:
        raise ValueError("its format is another one")
    if content.pop("vocabulary") != FINGERPRINT:
        raise ValueError("its vocabulary is another one")
    schedule, totals = Schedule(**content.pop("schedule")), Totals(**content.pop("totals"))
    return TrainState(**content, schedule=schedule, totals=totals)


def _reason(error: BaseException) -> str:
    """What the system said, from behind PyTorch's own words."""
    cause: BaseException = error
    while not isinstance(cause, OSError) and (before := cause.__cause__ or cause.__context__):
        cause = before
    return (cause.strerror if isinstance(cause, OSError) else None) or type(error).__name__


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
