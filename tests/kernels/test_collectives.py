"""Tensor and sequence parallelism: the same bits for any number of processes and any cut into messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from microturn.kernels import BadShapeError
from microturn.kernels.collectives import row_counts, shard
from microturn.kernels.spec import LOGICAL_SHARDS

pytestmark = [pytest.mark.unit, pytest.mark.timeout(120)]

PROGRAM = Path(__file__).with_name("collective_program.py")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the processes of `collective_program.py` found."""
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path_factory.mktemp("groups")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_one_two_and_four_processes_give_the_same_bits(answers: dict[str, Any]) -> None:
    alone = answers["cases"]["1"][0]
    assert len(alone) == 8
    for world, processes in answers["cases"].items():
        assert processes == [alone] * int(world)


def test_any_cut_into_messages_gives_the_same_bits(answers: dict[str, Any]) -> None:
    for case, hashes in answers["cases"]["4"][0].items():
        assert len(set(hashes[::2])) == 1, f"whole rows, {case}"
        assert len(set(hashes[1::2])) == 1, f"scattered and gathered rows, {case}"
        assert hashes[0] != hashes[1]


def test_an_ordinary_sum_of_parts_depends_on_the_number_of_processes(answers: dict[str, Any]) -> None:
    found = {world: set(hashes) for world, hashes in answers["native"].items()}
    assert all(len(hashes) == 1 for hashes in found.values())
    assert len(set.union(*found.values())) == 3


def test_survivors_of_a_process_that_died_are_told(answers: dict[str, Any]) -> None:
    for world, said in answers["death"].items():
        assert said.pop() is None, "the dead process has nothing to say"
        for rank, message in enumerate(said):
            assert f"process {rank} of {world} could not" in message
            assert "start all of the group anew" in message


def test_a_process_that_answers_too_late_is_given_up(answers: dict[str, Any]) -> None:
    assert "start all of the group anew" in answers["silence"]["2"][0]


@pytest.mark.parametrize(("tokens", "world"), [(0, 4), (1, 4), (7, 2), (8, 4), (13, 8)])
def test_rows_are_shared_out_evenly_and_completely(tokens: int, world: int) -> None:
    counts = row_counts(tokens, world)
    assert sum(counts) == tokens
    assert max(counts) - min(counts) <= 1


def test_shards_make_up_the_weight() -> None:
    weight = torch.arange(16.0 * 24).reshape(16, 24)
    for dim in (0, 1):
        parts = [shard(weight, dim, rank=rank, world=4) for rank in range(4)]
        assert torch.equal(torch.cat(parts, dim), weight)


def test_a_weight_that_cannot_be_cut_is_refused() -> None:
    with pytest.raises(BadShapeError, match=f"dimension 1 to be a multiple of {LOGICAL_SHARDS}, got 20"):
        shard(torch.zeros(16, 20), 1, rank=0, world=2)
    with pytest.raises(BadShapeError, match=f"a divisor of {LOGICAL_SHARDS}, got 3"):
        shard(torch.zeros(16, 24), 1, rank=0, world=3)
