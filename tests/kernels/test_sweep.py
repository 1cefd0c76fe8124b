import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from microturn.kernels.gpu.tuning import (
    Tile,
    forced_class,
    forced_tile,
    mma_class,
    parse_table,
    pick,
    tile_for,
)
from microturn.kernels.tune import expert_sweep, weight_sweep
from microturn.kernels.tune.bit_class import BitClasses, bit_classes, row_hash
from microturn.kernels.tune.candidates import BUCKETS, candidates, expert_candidates
from microturn.kernels.tune.deadline import Deadline
from microturn.kernels.tune.expert_sweep import _combined, _pairs, expert_jobs
from microturn.kernels.tune.journal import Journal
from microturn.kernels.tune.plan import Plan, dry_plan
from microturn.kernels.tune.shapes import CENSUS, TINY
from microturn.kernels.tune.sweep import main, sweep
from microturn.kernels.tune.table_file import TableFile
from microturn.kernels.tune.timing import Timing, Variants
from microturn.kernels.tune.weight_sweep import swept_weight, weight_jobs

pytestmark = pytest.mark.unit


class _Ticking:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_share_of_a_deadline_never_reaches_beyond_it() -> None:
    clock = _Ticking()
    whole = Deadline(10.0, clock=clock)
    part = whole.share(4.0)
    clock.now += 5.0
    assert part.is_over and not whole.is_over
    assert whole.share(100.0).left_s == pytest.approx(5.0)
    clock.now += 6.0
    assert whole.left_s == 0.0


def test_the_journal_is_on_disk_after_every_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path / "new" / "run.jsonl")
    journal.add("timed", {"us": 1.23456789})
    written = (tmp_path / "new" / "run.jsonl").read_text()
    assert json.loads(written) == {"kind": "timed", "us": 1.23456789}
    assert capsys.readouterr().err == "kind=timed us=1.235\n"
    assert not journal.has_failures
    journal.failed("step", ValueError("why"))
    assert journal.has_failures
    assert journal.records[-1]["error"] == "ValueError: why"


def test_a_check_that_is_wrong_counts_as_a_failure() -> None:
    journal = Journal(None, is_quiet=True)
    journal.add("check", {"is_right": True})
    assert not journal.has_failures
    journal.add("check", {"is_right": False})
    assert journal.has_failures


def test_one_flipped_bit_or_two_swapped_numbers_change_a_rows_hash() -> None:
    row = torch.randn(1, 100).to(torch.bfloat16)
    changed, swapped = row.clone(), row.clone()
    changed.view(torch.int16)[0, 57] ^= 1
    swapped[0, [3, 4]] = swapped[0, [4, 3]]
    hashes = {int(row_hash(one, 0)) for one in (row, row.clone(), changed, swapped)}
    assert len(hashes) == 3


def test_zero_and_minus_zero_have_other_hashes() -> None:
    assert int(row_hash(torch.tensor([[0.0]]), 0)) != int(row_hash(torch.tensor([[-0.0]]), 0))


def test_a_hash_covers_every_output_of_an_operator() -> None:
    first, second = torch.randn(2, 4), torch.randn(2, 4)
    assert int(row_hash((first, second), 1)) != int(row_hash((second, first), 1))


def test_a_product_whose_bits_depend_on_the_batch_is_found_out() -> None:
    # In float32 PyTorch multiplies one row by another routine than many.
    weight = torch.randn(256, 512)
    found = bit_classes(lambda x: F.linear(x, weight), torch.randn(40, 512), range(1, 41))
    assert found.count > 1


def test_an_operator_that_looks_at_a_rows_place_is_found_out() -> None:
    def placed(x: Tensor) -> Tensor:
        return x + torch.arange(len(x)).unsqueeze(1) * 1e-3

    found = bit_classes(placed, torch.randn(9, 8), (1, 5, 9))
    assert len(set(found.first)) == 1
    assert found.count == 3
    assert found.as_row()["moved_rows_that_differ"] == 2


def test_a_row_wise_operator_has_one_class() -> None:
    found = bit_classes(lambda x: x * 2 + 1, torch.randn(9, 8), (1, 2, 9))
    assert found.count == 1


def test_the_rows_of_each_class_are_named_as_ranges() -> None:
    found = BitClasses(rows=(1, 2, 3, 5, 6, 9), first=(7, 7, 8, 8, 8, 7), last=(7,) * 6)
    assert found.ranges() == {f"{7:016x}": "1-2,9", f"{8:016x}": "3,5-6"}


@pytest.mark.parametrize("mma", ["equal", "hgmma", "hmma"])
@pytest.mark.parametrize("operator", ["linear", "lm_head"])
def test_every_bucket_has_candidates_that_fit_the_class_and_shared_memory(operator: str, mma: str) -> None:
    for limit in BUCKETS:
        found = list(candidates(operator, limit or 2048, mma))  # type: ignore[arg-type]  # pytest passes plain text
        assert 1 <= len(found) <= 72
        assert len(set(found)) == len(found)
        for tile in found:
            assert tile.fits(mma)  # type: ignore[arg-type]  # as above
            assert 2 * (tile.rows + tile.columns) * tile.depth * tile.stages <= 232_448


def test_few_tokens_never_fill_a_high_block_of_experts() -> None:
    assert set(expert_candidates(1, "equal", gates=2)) == {16}
    assert set(expert_candidates(1024, "equal", gates=2)) == {16, 32, 64, 128}


def test_both_products_of_a_pair_have_the_same_height() -> None:
    pairs = _pairs(1024, "equal", most=1000)
    assert {first.rows for first, _ in pairs} == {16, 32, 64, 128}
    assert all(first.rows == second.rows for first, second in pairs)
    assert len(set(pairs)) == len(pairs)


def test_the_best_tile_of_each_product_is_put_together() -> None:
    first, other = Tile(16, 32, 64, 4, 3), Tile(16, 64, 64, 4, 3)
    second, further = Tile(16, 32, 128, 4, 3), Tile(16, 64, 128, 4, 3)
    spent = {(first, second): 10.0, (other, second): 8.0, (first, further): 7.0}
    assert _combined(spent, list(spent)) == {(other, further): 5.0}


def test_what_will_be_timed_is_compiled_before() -> None:
    plan = dry_plan()
    jobs = weight_jobs(plan, "equal")
    for operator, n, k in (("linear", *plan.shapes[0]), ("lm_head", *plan.heads[0])):
        for limit in plan.buckets:
            rows = limit or plan.largest
            for tile in list(candidates(operator, rows, "equal"))[: plan.most_candidates]:
                assert any(
                    job.operator == operator and job.tiles == (tile,) and {1, rows} <= set(job.rows)
                    for job in jobs
                ), (n, k, tile)
    pairs = {job.tiles for job in expert_jobs(plan, TINY, "equal")}
    assert set(_pairs(1, "equal", plan.most_candidates)) <= pairs


def test_a_table_is_readable_at_any_moment_and_serves_any_batch(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tables.json"
    table = TableFile(path, 90, "equal")
    table.write()
    assert parse_table(path.read_text(), name="empty").tiles == {}
    tile: dict[str, object] = {
        "rows": 16,
        "columns": 32,
        "depth": 64,
        "warps": 4,
        "stages": 3,
        "group": 8,
        "loads": "pointer",
    }
    table.add("linear", 4096, 2048, [{"max_rows": 1, **tile}, {"max_rows": 16, **tile}])
    table.add("linear", 64, 64, [])
    read = parse_table(path.read_text(), name="filled")
    assert set(read.tiles) == {("linear", 4096, 2048)}
    assert pick(read.tiles["linear", 4096, 2048], 10_000).rows == 16


def test_a_tile_of_another_class_never_gets_into_a_table(tmp_path: Path) -> None:
    table = TableFile(tmp_path / "tables.json", 90, "hgmma")
    table.write()
    before = (tmp_path / "tables.json").read_text()
    small: dict[str, object] = {
        "max_rows": None,
        "rows": 16,
        "columns": 32,
        "depth": 64,
        "warps": 4,
        "stages": 3,
    }
    with pytest.raises(ValueError, match="hgmma"):
        table.add("linear", 64, 64, [small])
    assert (tmp_path / "tables.json").read_text() == before


class _Scripted:
    """A clock that runs nothing and gives the times that it was told."""

    def __init__(self, us: Sequence[float]) -> None:
        self._us = list(us)

    def time(self, variants: Variants) -> dict[str, Timing]:
        assert all(callable(calls[0]) for calls in variants.values())
        return {name: Timing.of([us]) for name, us in zip(variants, self._us, strict=False)}


def _plan(us: Sequence[float]) -> Plan:
    plain = dry_plan()
    return Plan(
        device=plain.device, clock=_Scripted(us), shapes=plain.shapes, heads=(), experts=None, expert_tokens=(),
        buckets=(16, None), class_rows=(1, 17), largest=17, most_candidates=3, workers=0,
    )  # fmt: skip


def _linear_that_shifts(columns: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A product that is wrong in its last bit with tiles of so many columns."""

    def linear(x: Tensor, weight: Tensor) -> Tensor:
        tile = tile_for("linear", len(x), *weight.shape, arch=90, defaults={})
        assert mma_class(90) == "equal"
        exact = (x.double() @ weight.T.double()).float()
        return exact.nextafter(torch.tensor(torch.inf)) if tile.columns == columns else exact

    return linear


def test_the_fastest_tile_wins_and_one_that_breaks_bits_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = [Tile(16, columns, 64, 4, 3) for columns in (32, 16, 64)]
    monkeypatch.setattr(weight_sweep, "candidates", lambda operator, rows, mma: iter(tiles))
    monkeypatch.setattr(weight_sweep, "PRODUCTS", {"linear": _linear_that_shifts(32)})
    journal = Journal(None, is_quiet=True)
    found = list(swept_weight(_plan([5.0, 3.0]), "linear", 32, 64, "equal", Deadline(60.0), journal))
    # Of the two that are left, 16 and 64 columns, the second is the quicker one.
    assert [(entry["max_rows"], entry["columns"]) for entry in found] == [(16, 64), (None, 64)]
    dropped = [record for record in journal.records if record["kind"] == "dropped"]
    assert ["columns=32" in str(record["tile"]) for record in dropped] == [True, True]
    assert [record["tiles"] for record in journal.records if record["kind"] == "timed"] == [2, 2]


def test_no_tile_is_tried_after_the_deadline() -> None:
    journal = Journal(None, is_quiet=True)
    assert list(swept_weight(_plan([1.0]), "linear", 32, 64, "equal", Deadline(0.0), journal)) == []
    assert [record["kind"] for record in journal.records] == ["skipped"]


def test_tiles_that_disagree_lead_to_the_safe_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_sweep, "PRODUCTS", {"linear": _linear_that_shifts(128)})
    journal = Journal(None, is_quiet=True)
    assert weight_sweep.found_class(_plan([]), journal) == "hgmma"
    monkeypatch.setattr(weight_sweep, "PRODUCTS", {"linear": _linear_that_shifts(7)})
    assert weight_sweep.found_class(_plan([]), journal) == "equal"


def test_a_weight_that_fails_costs_no_other_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("microturn.kernels.tune.sweep.swept_weight", broken)
    monkeypatch.setattr("microturn.kernels.tune.sweep._precompile", lambda *arguments: None)
    journal = Journal(None, is_quiet=True)
    sweep(_plan([]), Deadline(60.0), journal, tmp_path / "tables.json", "equal")
    assert [record["step"] for record in journal.records if record["kind"] == "failure"] == ["linear 32x64"]
    assert parse_table((tmp_path / "tables.json").read_text(), name="kept").mma_class == "equal"


def test_experts_whose_first_token_differs_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def moe(x: Tensor, gate_up: Tensor, down: Tensor, ids: Tensor, shares: Tensor) -> Tensor:
        tile = tile_for("moe_down", len(x), *down.shape[1:], arch=90, defaults={})
        return x + (1.0 if tile.columns == 64 and len(x) > 1 else 0.0)

    good, bad = Tile(16, 32, 64, 4, 3), Tile(16, 64, 64, 4, 3)
    monkeypatch.setattr(expert_sweep, "moe", moe)
    monkeypatch.setattr(expert_sweep, "_pairs", lambda tokens, mma, most: [(good, bad), (good, good)])
    journal = Journal(None, is_quiet=True)
    plan = Plan(**{**vars(_plan([5.0])), "expert_tokens": (8,)})
    first, second = expert_sweep.swept_experts(plan, TINY, "equal", Deadline(60.0), journal)
    assert [entry["columns"] for entry in second] == [32]
    assert len(first) == 1
    assert [record["why"] for record in journal.records if record["kind"] == "dropped"] == [
        "bits depend on the batch"
    ]


def test_forcing_a_class_and_a_tile_ends_with_the_block() -> None:
    before, tile = mma_class(90), Tile(16, 16, 64, 4, 3)
    with forced_class("hmma"), forced_tile("linear", tile):
        assert mma_class(90) == "hmma"
        assert tile_for("linear", 1, 8, 8, arch=90, defaults={}) == tile
    assert mma_class(90) == before


def test_the_census_has_twelve_different_weights() -> None:
    assert len(set(CENSUS)) == 12


def test_a_sweep_without_a_gpu_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--out", str(tmp_path / "tables.json")]) == 2
    assert "--dry-run" in capsys.readouterr().err
    assert not (tmp_path / "tables.json").exists()
