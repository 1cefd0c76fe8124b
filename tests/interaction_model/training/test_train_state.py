from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
import torch

from microturn.interaction_model.training._errors import NoStateError, StateNotWrittenError
from microturn.interaction_model.training.schedule import Schedule
from microturn.interaction_model.training.train_state import StateFolder, Totals, TrainState

pytestmark = pytest.mark.unit


def state(step: int) -> TrainState:
    return TrainState(
        step=step,
        preset="nano",
        seed=3,
        data="abc",
        model={"weight": torch.full((100,), float(step))},
        optimizer={"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        schedule=Schedule(7).falling(20, 5),
        totals=Totals(audio_s=1.5, tokens=7, skipped=2),
        best_loss=0.25,
        random=torch.get_rng_state(),
    )


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    wanted = state(12)
    folder.save(wanted)
    found = folder.load_newest()
    for field in ("step", "preset", "seed", "data", "schedule", "totals", "best_loss"):
        assert getattr(found, field) == getattr(wanted, field)
    assert torch.equal(found.model["weight"], wanted.model["weight"])
    assert torch.equal(found.random, wanted.random)
    assert found.optimizer["param_groups"] == wanted.optimizer["param_groups"]
    assert found.optimizer["state"][0]["step"] == 2.0


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    for step in (10, 20, 30, 40):
        folder.save(state(step), is_best=step in (10, 20))
    assert [path.name.split("-")[1] for path in folder.files()] == ["00000040", "00000030"]
    best = folder.best()
    assert best is not None and best.name.startswith("best-00000020-")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_step_that_is_saved_again_replaces_itself_and_what_lay_behind_it(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    for step in (10, 20, 30):
        folder.save(state(step))
    again = state(20)
    again.best_loss = 0.1
    path = folder.save(again)
    assert folder.files() == [path]
    assert folder.load_newest().best_loss == 0.1


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_broken_state_is_named_and_the_one_before_taken(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = StateFolder(tmp_path)
    folder.save(state(10))
    newest = folder.save(state(20))
    whole = newest.read_bytes()
    middle = len(whole) // 2
    newest.write_bytes(
        {"cut": whole[:middle], "empty": b"", "changed": whole[:middle] + b"\xff\x00" + whole[middle + 2 :]}[
            damage
        ]
    )
    with caplog.at_level(logging.WARNING):
        assert folder.load_newest().step == 10
    assert newest.name in caplog.text


def test_the_best_is_taken_where_all_others_are_broken(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.save(state(10), is_best=True)
    for step in (20, 30):
        folder.save(state(step)).write_bytes(b"")
    assert folder.load_newest().step == 10


def test_nothing_that_can_be_read_is_an_error_that_counts_the_broken(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with pytest.raises(NoStateError, match="found none and 0 broken"):
        folder.load_newest()
    folder.save(state(10)).write_bytes(b"")
    with pytest.raises(NoStateError, match="1 broken"):
        folder.load_newest()


def test_a_full_disk_leaves_the_state_before_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StateFolder(tmp_path)
    kept = folder.save(state(10))

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StateNotWrittenError, match="No space left on device"):
        folder.save(state(20))
    assert list(tmp_path.iterdir()) == [kept]


def test_a_device_that_is_full_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no device that is always full")
    beside = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode: beside(full, mode))
    with pytest.raises(StateNotWrittenError, match="No space left on device"):
        StateFolder(tmp_path).save(state(10))
