"""Tables of tiles: read, refused if they would change bits, looked up by the rows of each call."""

from __future__ import annotations

import inspect
import json
from importlib import import_module

import pytest
import torch

from microturn.kernels.gpu import gemm, lm_head, moe, tuning
from microturn.kernels.gpu.tuning import MmaClass, Table, Tile, parse_table, pick

pytestmark = pytest.mark.unit

SMALL = {"rows": 16, "columns": 32, "depth": 128, "warps": 4, "stages": 5}
LARGE = {"rows": 128, "columns": 256, "depth": 64, "warps": 8, "stages": 3, "loads": "tma"}


def table(mma_class: str, *entries: dict[str, object]) -> Table:
    text = json.dumps(
        {"arch": 90, "mma_class": mma_class, "tiles": {"linear": {"12288x2048": list(entries)}}}
    )
    return parse_table(text, name="sm_90.json")


def test_a_table_gives_the_tile_of_the_smallest_bucket_that_fits() -> None:
    read = table("equal", {"max_rows": 16, **SMALL}, {"max_rows": None, **LARGE})
    buckets = read.tiles["linear", 12288, 2048]
    assert [pick(buckets, rows).rows for rows in (1, 16, 17, 8192)] == [16, 16, 128, 128]
    assert pick(buckets, 17).loads == "tma" and pick(buckets, 1).group == Tile.group
    assert [tile.rows for _, _, tile in read.operator_tiles("linear")] == [16, 128]
    assert list(read.operator_tiles("lm_head")) == []


@pytest.mark.parametrize("mma_class", ["hgmma", "hmma"])
def test_a_tile_that_another_instruction_would_compute_is_refused(mma_class: str) -> None:
    with pytest.raises(ValueError, match=f"class '{mma_class}'"):
        table(mma_class, {"max_rows": 16, **SMALL}, {"max_rows": None, **LARGE})


def test_a_table_must_serve_large_batches_and_name_a_known_class() -> None:
    with pytest.raises(ValueError, match="end with null"):
        table("equal", {"max_rows": 16, **SMALL})
    with pytest.raises(ValueError, match="ascend"):
        table("equal", {"max_rows": 64, **SMALL}, {"max_rows": 16, **SMALL}, {"max_rows": None, **SMALL})
    with pytest.raises(ValueError, match="expected mma_class"):
        table("fast", {"max_rows": None, **SMALL})


def test_shipped_tables_are_well_formed_and_named_by_their_architecture() -> None:
    tuning.forget_tables()
    for shipped in tuning.tables():
        assert tuning.mma_class(shipped.arch) == shipped.mma_class


def test_without_evidence_one_class_of_instructions_serves_every_batch() -> None:
    assert tuning.safe_class(80) == "equal"
    assert tuning.safe_class(90) == tuning.safe_class(100) == "hgmma"


@pytest.mark.parametrize(
    "defaults",
    [gemm.DEFAULTS, gemm.CUT_DEFAULTS, lm_head.DEFAULTS, moe.GATE_UP, moe.DOWN],
)
@pytest.mark.parametrize("mma", ["equal", "hgmma", "hmma"])
def test_every_default_tile_keeps_to_its_class(defaults: tuning.Defaults, mma: MmaClass) -> None:
    buckets = defaults[mma]
    assert buckets[-1][0] is None
    assert all(tile.fits(mma) for _, tile in buckets)


@pytest.mark.parametrize("mma", ["equal", "hgmma", "hmma"])
def test_both_products_of_the_experts_walk_through_the_same_blocks(mma: MmaClass) -> None:
    for average in (1, 16, 17, 64, 65, 1000):
        assert pick(moe.GATE_UP[mma], average).rows == pick(moe.DOWN[mma], average).rows


def test_a_forced_tile_is_forgotten_after_its_block_even_after_an_error() -> None:
    def found() -> Tile:
        return tuning.tile_for("linear", 4, 64, 64, arch=80, defaults=gemm.DEFAULTS)

    before, forced = found(), Tile(64, 64, 64, 4, 2)
    with pytest.raises(RuntimeError), tuning.forced_tile("linear", forced):
        assert found() == forced
        raise RuntimeError
    assert found() == before
    assert tuning.architecture(torch.device("cpu")) == tuning.INTERPRETER_ARCH


@pytest.mark.parametrize(
    ("module", "function"),
    [
        *(("gemm linear", name) for name in ("linear", "linear_shards", "matmul", "bmm")),
        *(("norm norm", name) for name in ("rms_norm", "add_rms_norm", "adaptive_rms_norm", "mean")),
        *(("softmax softmax", n) for n in ("softmax", "log_softmax", "lm_head_logprob", "lm_head_argmax")),
        *(("activation activation", name) for name in ("silu", "swiglu")),
        ("router router", "route"),
        ("moe moe", "moe"),
    ],
)
def test_both_devices_take_the_same_arguments(module: str, function: str) -> None:
    gpu, cpu = module.split()
    ours = getattr(import_module(f"microturn.kernels.gpu.{gpu}"), function)
    theirs = getattr(import_module(f"microturn.kernels.cpu.{cpu}"), function)
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
