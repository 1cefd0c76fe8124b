"""The memory plan, on numbers small enough to add up by hand."""

from __future__ import annotations

import io

import pytest

from microturn.interaction_model.native import BadConfigError
from microturn.interaction_model.native.config import (
    BackboneConfig,
    EarsConfig,
    ExpertsConfig,
    EyesConfig,
    HeadsConfig,
    NetworkConfig,
)
from microturn.interaction_model.native.cost import count_parameters
from microturn.interaction_model.native.memory_plan import MemoryPlan, Placement, plan_memory, write_table
from microturn.interaction_model.native.presets import preset

pytestmark = pytest.mark.unit

HEADS = HeadsConfig(heads=4, groups=2, head_dim=3)
TINY = NetworkConfig(
    backbone=BackboneConfig(
        vocabulary=10,
        width=8,
        attention=("sliding", "global"),
        mlps=("dense", "dense"),
        sliding_heads=HEADS,
        global_heads=HEADS,
        window=6,
        reach=5,
        profile_rank=2,
        taps=4,
        inner=12,
    ),
    ears=EarsConfig(width=8),
    eyes=EyesConfig(width=8, patch=2, layers=1),
)


def plan(
    config: NetworkConfig = TINY, tensor: int = 1, sequence: int = 1, tokens_per_hour: int = 100
) -> MemoryPlan:
    placement = Placement(tensor=tensor, sequence=sequence)
    return plan_memory(
        config, placement, step_tokens=7, step_sessions=3, tokens_per_hour=tokens_per_hour, number_bytes=2
    )


def test_one_gpu_holds_everything_once() -> None:
    got = plan()
    assert got.weight_bytes == 2 * count_parameters(TINY).total
    # Two layers with inputs of three taps for keys and values of 6 and both branches of 8; a window of 6 tokens.
    assert got.session_bytes == 2 * (2 * 3 * (6 + 6 + 8 + 8) + 6 * 12)
    # One global layer with 12 numbers for each token.
    assert got.hour_bytes == 2 * 12 * 100
    # Stream and branch of 8; beside them 4 heads with q and output of 3, 2 relative states, a bias of 6, and k and v.
    assert got.activation_bytes == 2 * 7 * (8 + 8) + 2 * 7 * (4 * (3 + 3 + 2 + 6) + 12)


def test_two_gpus_share_matrices() -> None:
    got = plan(tensor=2)
    # Per layer half of q and o, r, k and v with their taps, and the MLP; half of embedding and head.
    layer = 2 * 8 * 6 + 8 * 4 + 2 * 8 * 3 + 2 * 3 * 4 + 3 * 8 * 6
    assert got.weight_bytes == 2 * (count_parameters(TINY).total - 2 * layer - 2 * 5 * 8)
    assert got.session_bytes == 2 * (2 * 3 * (3 + 3 + 8 + 8) + 6 * 6)
    assert got.hour_bytes == 2 * 6 * 100
    assert got.activation_bytes == 2 * 7 * (8 + 8) + 2 * 7 * (2 * (3 + 3 + 2 + 6) + 6)


def test_two_gpus_share_tokens() -> None:
    got = plan(sequence=2)
    assert got.weight_bytes == plan().weight_bytes
    assert got.session_bytes == 2 * (2 * 3 * (6 + 6 + 8 + 8) + 3 * 12)
    assert got.hour_bytes == 2 * 12 * 50
    assert got.activation_bytes == 2 * 4 * (8 + 8) + 2 * 4 * (4 * (3 + 3 + 2 + 6) + 12)


def test_a_group_of_heads_is_held_twice_rather_than_cut() -> None:
    assert plan(tensor=4).hour_bytes == plan(tensor=2).hour_bytes
    assert plan(tensor=4).weight_bytes < plan(tensor=2).weight_bytes


def test_experts_are_shared_by_their_inner_width() -> None:
    backbone = BackboneConfig(
        vocabulary=10,
        width=8,
        attention=("global",),
        mlps=("sparse",),
        sliding_heads=HEADS,
        global_heads=HEADS,
        window=6,
        reach=5,
        profile_rank=2,
        experts=ExpertsConfig(count=3, chosen=2, shared=1, inner=10),
    )
    config = NetworkConfig(backbone=backbone, ears=TINY.ears, eyes=TINY.eyes)
    attention = 2 * 8 * 6 + 8 * 4 + 2 * 8 * 3 + 2 * 3 * 4
    saved = plan(config).weight_bytes - plan(config, tensor=2).weight_bytes
    assert saved == 2 * (attention + 4 * 3 * 8 * 5 + 2 * 5 * 8)
    # Three experts a token, each with gate, up and their product of 5, and an output of 8.
    assert plan(config, tensor=2).activation_bytes == 2 * 7 * (8 + 8) + 2 * 7 * 3 * (15 + 8)


def test_session_hours_are_what_is_left() -> None:
    got = plan()
    size = got.weight_bytes + got.activation_bytes + 10 * (got.session_bytes + got.hour_bytes)
    assert got.session_hours(size) == 10
    assert got.session_hours(1000) == 0


def test_what_cannot_be_cut_is_named() -> None:
    with pytest.raises(BadConfigError, match="heads of sliding layers to be a multiple of 3 GPUs, got 4"):
        plan(tensor=3)
    with pytest.raises(BadConfigError, match="1 or more"):
        Placement(tensor=0)


def test_the_large_preset_needs_eight_gpus_of_80_gigabytes() -> None:
    config = preset("small-276b-a12b")
    gpu = 80 * 10**9
    on_four, on_eight = (
        plan_memory(config, Placement(tensor=tensor), step_tokens=4096, step_sessions=64) for tensor in (4, 8)
    )
    assert on_four.session_hours(gpu) == 0
    assert on_eight.session_hours(gpu) > 10
    # Seven global layers with one group of keys and values of 128 numbers on each of eight GPUs.
    assert on_eight.hour_bytes == 7 * 2 * 128 * 2 * 90_000


def test_the_table_has_a_line_for_each_placement() -> None:
    out = io.StringIO()
    placements = [Placement(), Placement(tensor=2), Placement(tensor=2, sequence=2)]
    write_table(TINY, placements, gpu_bytes=10**9, step_tokens=7, step_sessions=3, out=out)
    header, *lines = out.getvalue().splitlines()
    assert header.split()[:4] == ["GPUs", "tensor", "sequence", "weights"]
    assert [line.split()[:3] for line in lines] == [["1", "1", "1"], ["2", "2", "1"], ["4", "2", "2"]]
    assert len({len(line) for line in (header, *lines)}) == 1
