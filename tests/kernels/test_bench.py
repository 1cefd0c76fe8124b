import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import pytest
import torch
from torch import Tensor

from microturn.kernels import reference
from microturn.kernels.bench import baselines, floors, report
from microturn.kernels.bench.__main__ import _parser, main
from microturn.kernels.bench.figure import Figure, Floor
from microturn.kernels.bench.floors import H100
from microturn.kernels.bench.layer import LayerState, LayerWeights, layer_step
from microturn.kernels.bench.machine import cpu_ceilings, this_machine
from microturn.kernels.bench.ours import OURS
from microturn.kernels.bench.targets import GPU_TARGETS
from microturn.kernels.tune.shapes import INKLING_SMALL, INKLING_VOCABULARY, TINY
from microturn.kernels.tune.timing import CpuClock, ReplayClock, Timing, quantile, rotations

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")
DRY_RUN = Path(__file__).with_name("dry_run_program.py")

# Floors in microseconds worked out by hand for 3.0 TB/s and 790 TFLOP/s.
ROUTED = {1: 100.7, 4: 388.8, 8: 742.0, 50: 2984.0, 128: 4091.0, 1024: 4317.0, 8192: 4474.0}
SHARED = {1: 33.6, 4: 33.6, 8: 33.6, 50: 33.8, 128: 34.3, 1024: 130.0, 8192: 1044.0}
QKV = {1: 18.2, 4: 18.2, 8: 18.2, 50: 18.5, 128: 19.1, 1024: 70.7, 8192: 565.0}
OUTPUT = {1: 11.2, 4: 11.2, 8: 11.2, 50: 11.5, 128: 11.9, 1024: 43.5, 8192: 348.0}
HEAD = {1: 549.0, 4: 549.0, 8: 550.0, 50: 556.0, 128: 566.0, 1024: 2135.0, 8192: 17077.0}


@pytest.mark.parametrize("tokens", ROUTED)
def test_floors_of_linears_and_experts_are_those_worked_out_by_hand(tokens: int) -> None:
    small = INKLING_SMALL
    assert small.qkv_width == 6656
    # The tables by hand leave out the shared experts' inner activations.
    assert floors.shared_experts(H100, small, tokens).us == pytest.approx(SHARED[tokens], rel=0.02)
    assert floors.routed_experts(H100, small, tokens).us == pytest.approx(ROUTED[tokens], rel=0.005)
    assert floors.linear(H100, tokens, 6656, 4096).us == pytest.approx(QKV[tokens], rel=0.005)
    assert floors.linear(H100, tokens, 4096, 4096).us == pytest.approx(OUTPUT[tokens], rel=0.005)
    assert floors.linear(H100, tokens, INKLING_VOCABULARY, 4096).us == pytest.approx(HEAD[tokens], rel=0.005)


@pytest.mark.parametrize(
    ("sessions", "context", "chunk", "expected_us"),
    [
        (1, 4096, 1, 5.6),
        (8, 8192, 1, 89.5),
        (1, 131072, 1, 179.0),
        (1, 8192, 50, 11.2),
        (1, 32768, 2048, 1392.0),
    ],
)
def test_floors_of_attention_are_those_worked_out_by_hand(
    sessions: int, context: int, chunk: int, expected_us: float
) -> None:
    # By hand neither the queries' bytes nor the causal triangle were counted.
    found = floors.attention(H100, INKLING_SMALL, sessions=sessions, context=context, chunk=chunk)
    assert found.us == pytest.approx(expected_us, rel=0.035)


def test_floors_of_the_small_operators_are_those_worked_out_by_hand() -> None:
    assert floors.rows(H100, 2048, 4096, tensors=3).us == pytest.approx(16.8, rel=0.005)
    assert floors.linear(H100, 1, 258, 4096).us == pytest.approx(0.7, rel=0.02)
    assert floors.kv_append(H100, INKLING_SMALL, 50).us == pytest.approx(0.14, rel=0.05)
    assert floors.dmel(H100, 4).us == pytest.approx(3.4, rel=0.02)
    assert floors.flow_head(H100, 1024, 8).us == pytest.approx(67.0, rel=0.005)
    assert floors.flow_head(H100, 512, 6).us == pytest.approx(12.6, rel=0.005)


def test_a_token_visits_as_many_experts_as_it_chooses_and_many_tokens_visit_nearly_all() -> None:
    assert floors.distinct_experts(1, 256, 6) == pytest.approx(6.0)
    assert floors.distinct_experts(50, 256, 6) == pytest.approx(177.8, abs=0.05)
    assert 255.9 < floors.distinct_experts(1024, 256, 6) <= 256.0


def test_a_layers_floor_is_the_sum_of_its_parts_and_names_what_rules() -> None:
    token = floors.layer(H100, INKLING_SMALL, tokens=1, context=8192)
    many = floors.layer(H100, INKLING_SMALL, tokens=8192, context=8192)
    assert token.bound == "bytes"
    assert 150 < token.us < 190
    assert many.us > floors.moe(H100, INKLING_SMALL, 8192).us


def test_quantiles_lie_between_neighbours() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([0.0, 10.0], 0.2) == pytest.approx(2.0)
    assert quantile([5.0], 0.8) == 5.0


def test_a_timing_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="durations_us is empty"):
        Timing.of([])


def test_variants_take_turns_and_their_buffers_rotate() -> None:
    seen: list[str] = []

    def call(name: str) -> Callable[[], None]:
        return lambda: seen.append(name)

    clock = CpuClock(rounds=3, budget_s=100.0, least_rounds=3)
    found = clock.time({"a": [call("a0"), call("a1")], "b": [call("b0")]})
    assert seen == ["a0", "a1", "b0", "a0", "b0", "a1", "b0", "a0", "b0"]
    assert found["a"].rounds == found["b"].rounds == 3
    assert found["a"].cpu_us is not None


def test_buffers_rotate_until_they_exceed_the_cache_twice_or_memory_ends() -> None:
    megabyte = 1 << 20
    assert rotations(40 * megabyte, cache_bytes=50 * megabyte, free_bytes=10**12) == 3
    assert rotations(1, cache_bytes=50 * megabyte, free_bytes=10**12) == 64
    assert rotations(40 * megabyte, cache_bytes=50 * megabyte, free_bytes=90 * megabyte) == 2
    assert rotations(10**10, cache_bytes=50 * megabyte, free_bytes=1) == 1


class _FakeGpu:
    """Stands in for the parts of `torch.cuda` that timing uses: its clock moves by 10 us with each call."""

    def __init__(self, *, can_capture: bool) -> None:
        self.now_ms = 0.0
        self.can_capture = can_capture
        self.recorded: list[Callable[[], None]] | None = None
        self.captured_calls = 0

    def work(self) -> None:
        if self.recorded is not None:
            if not self.can_capture:
                raise RuntimeError("operation not permitted when stream is capturing")
            self.captured_calls += 1
            self.recorded.append(self.run)
        else:
            self.run()

    def run(self) -> None:
        self.now_ms += 0.01

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: C901  # a class per fake
        gpu = self

        class Stream:
            def wait_stream(self, other: object) -> None:
                assert isinstance(other, Stream)

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing
                self.at = -1.0

            def record(self) -> None:
                self.at = gpu.now_ms

            def synchronize(self) -> None:
                pass

            def elapsed_time(self, end: "Event") -> float:
                return end.at - self.at

        class Graph:
            def __init__(self) -> None:
                self.calls: list[Callable[[], None]] = []

            def replay(self) -> None:
                for call in self.calls:
                    call()

        class Using:
            def __init__(self, what: Graph | Stream) -> None:
                self.what = what

            def __enter__(self) -> None:
                if isinstance(self.what, Graph):
                    gpu.recorded = self.what.calls

            def __exit__(
                self,
                kind: type[BaseException] | None,
                error: BaseException | None,
                trace: TracebackType | None,
            ) -> None:
                gpu.recorded = None

        fakes = {"Stream": Stream, "Event": Event, "CUDAGraph": Graph, "graph": Using, "stream": Using}
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        monkeypatch.setattr(torch.cuda, "current_stream", Stream)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)


def test_a_graph_holds_many_calls_and_the_time_is_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = _FakeGpu(can_capture=True)
    gpu.install(monkeypatch)
    found = ReplayClock(rounds=4, graph_us=200.0).time({"a": [gpu.work, gpu.work]})
    assert gpu.captured_calls == 20
    assert found["a"].p50_us == pytest.approx(10.0)
    assert (found["a"].how, found["a"].rounds) == ("replay", 4)


def test_what_cannot_be_captured_is_timed_eagerly_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = _FakeGpu(can_capture=False)
    gpu.install(monkeypatch)
    found = ReplayClock(rounds=4, graph_us=200.0).time({"a": [gpu.work]})
    assert found["a"].p50_us == pytest.approx(10.0)
    assert found["a"].how == "eager"


def _figure(variant: str, p20_us: float) -> Figure:
    timing_ = Timing(p20_us, p20_us + 1, p20_us + 2, 9)
    return Figure("linear", "8x8 M=1", variant, timing_, Floor(2.0, 1.0), "fast")


def test_our_time_is_set_beside_the_quickest_alternative() -> None:
    figures = [
        _figure("native", 4.0),
        _figure("native grouped", 2.0),
        _figure("ours", 3.0),
        _figure("ours packed", 1.0),
    ]
    assert [report.ratio(figure, figures) for figure in figures] == [None, None, 1.5, 0.5]
    assert report.ratio(figures[2], figures[2:]) is None
    assert "1.50x" in report.figure_table(figures)
    assert report.ratio(figures[2], figures, of="cpu_us") is None


def test_processor_time_is_compared_where_it_was_measured() -> None:
    def spent(variant: str, cpu_us: float) -> Figure:
        return Figure("linear", "8x8", variant, Timing(9.0, 9.0, 9.0, 5, cpu_us))

    figures = [spent("native", 4.0), spent("native gather", 8.0), spent("ours", 6.0)]
    assert report.ratio(figures[2], figures, of="cpu_us") == pytest.approx(1.5)
    assert report.ratio(figures[2], figures) == pytest.approx(1.0)


def test_a_figure_says_what_share_of_the_floor_it_reaches() -> None:
    assert _figure("ours", 3.0).of_floor == pytest.approx(0.5)
    assert _figure("ours", 3.0).as_row()["bound"] == "bytes"
    unmeasured = Figure("linear", "8x8", "ours", None, Floor(2.0, 1.0))
    assert unmeasured.of_floor is None
    assert set(unmeasured.as_row()) == set(_figure("ours", 3.0).as_row())
    assert "not measured" in report.figure_table([unmeasured])


def test_csv_and_json_hold_every_figure_with_the_machine(tmp_path: Path) -> None:
    machine, figures = this_machine(CPU), [_figure("native", 4.0), _figure("ours", 3.0)]
    report.write_json(tmp_path / "a" / "figures.json", machine, figures)
    report.write_csv(tmp_path / "a" / "figures.csv", machine, figures)
    document = json.loads((tmp_path / "a" / "figures.json").read_text())
    assert [figure["p20_us"] for figure in document["figures"]] == [4.0, 3.0]
    assert document["machine"]["torch"] == torch.__version__
    with (tmp_path / "a" / "figures.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["variant"] for row in rows] == ["native", "ours"]
    assert {row["fingerprint"] for row in rows} == {machine.fingerprint}


def test_the_goals_are_printed_as_not_measured_with_their_floors() -> None:
    text = report.target_table(GPU_TARGETS)
    assert text.count("not measured") == len(GPU_TARGETS)
    assert all(target.floor is None or f"{target.floor.us:.1f}" in text for target in GPU_TARGETS)


def test_a_machines_ceilings_are_positive_and_finite() -> None:
    found = cpu_ceilings(torch.float32, tries=1)
    assert 1e8 < found.bytes_per_s < 1e13
    assert 1e8 < found.flops_per_s < 1e14


def _layer(tokens: int) -> tuple[LayerWeights, LayerState, Tensor]:
    weights = LayerWeights.random(TINY, device=CPU, dtype=torch.float32, window=0)
    state = LayerState.random(
        TINY, sessions=1, context=40, chunk=tokens, page=16, window=0, device=CPU, dtype=torch.float32
    )
    return weights, state, torch.randn(tokens, TINY.width)


@pytest.mark.parametrize(
    "experts", [baselines.experts_one_by_one, baselines.experts_gathered, baselines.experts_grouped]
)
def test_every_alternative_computes_the_same_experts(experts: baselines.Experts) -> None:
    weights, _, x = _layer(7)
    ids, shares = OURS.route(x, weights)
    exact = reference.moe(x, weights.gate_up, weights.down, ids, shares)
    torch.testing.assert_close(experts(x, ids, shares, weights).double(), exact, rtol=1e-4, atol=1e-7)


def test_the_library_chooses_the_same_experts_and_weights() -> None:
    weights, _, x = _layer(7)
    ours, theirs = OURS.route(x, weights), baselines.LIBRARY.route(x, weights)
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])


@pytest.mark.parametrize("tokens", [1, 5])
def test_without_a_bias_by_distance_both_layers_compute_the_same(tokens: int) -> None:
    weights, state, x = _layer(tokens)
    assert weights.distances is not None
    weights.distances.zero_()
    pages = state.keys.transpose(1, 2).flatten(0, 1), state.values.transpose(1, 2).flatten(0, 1)
    state.dense_keys.copy_(pages[0][:40].transpose(0, 1).unsqueeze(0))
    state.dense_values.copy_(pages[1][:40].transpose(0, 1).unsqueeze(0))
    ours = layer_step(OURS, x, weights, state)
    theirs = layer_step(baselines.LIBRARY, x, weights, state)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    # The residual alone would pass the comparison above if the branches were tiny.
    assert float((ours - x).norm() / x.norm()) > 1e-3


def test_a_gpu_part_without_a_gpu_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["gpu", "census"]) == 2
    assert "--dry-run" in capsys.readouterr().err


def test_the_program_begins_anew_with_the_settings_that_libraries_read_at_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Restarted(Exception):
        pass

    started: list[list[str]] = []

    def execv(path: str, arguments: list[str]) -> None:
        started.append([path, *arguments])
        raise Restarted

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(os, "environ", {})
    with pytest.raises(Restarted):
        main(["gpu", "final", "--dry-run"])
    assert started[0][:2] == [sys.executable, sys.executable]
    assert os.environ == {"OMP_WAIT_POLICY": "PASSIVE", "TRITON_INTERPRET": "1"}


@pytest.mark.parametrize("words", [["--threads", "3", "cpu"], ["cpu", "--threads", "3"]])
def test_shared_options_may_stand_before_or_after_the_part(words: list[str]) -> None:
    options = _parser().parse_args(words)
    assert (options.part, options.threads, options.json) == ("cpu", 3, None)


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path, str]:
    """Everything that a GPU machine would run, with tiny sizes."""
    folder = tmp_path_factory.mktemp("dry_run")
    settings = {"TRITON_INTERPRET": "1", "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(DRY_RUN), str(folder)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, folder, done.stderr


def _records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.timeout(180)
def test_every_step_of_the_gpu_measurement_runs_without_a_gpu(dry_run: tuple[int, Path, str]) -> None:
    code, folder, errors = dry_run
    assert code == 0, errors[-3000:]
    for part in ("census", "correctness", "final", "sweep"):
        kinds = {record["kind"] for record in _records(folder / f"{part}.jsonl")}
        assert not kinds & {"failure", "skipped", "dropped"}, part


@pytest.mark.timeout(180)
def test_the_dry_run_leaves_a_verdict_checks_figures_and_a_table(dry_run: tuple[int, Path, str]) -> None:
    _, folder, _ = dry_run
    verdict = _records(folder / "census.jsonl")[-1]
    assert (verdict["weights"], verdict["weights_where_all_tiles_agree"]) == (2, 2)
    checked = _records(folder / "correctness.jsonl")[-1]
    assert checked["wrong"] == [] and isinstance(checked["checks"], int) and checked["checks"] > 20
    figures = json.loads((folder / "final.json").read_text())["figures"]
    groups = {figure["group"] for figure in figures}
    assert {"linear", "moe", "attention", "layer", "lm_head", "route", "append_kv", "dmel"} <= groups
    assert {figure["variant"] for figure in figures if figure["group"] == "layer"} == {
        "ours",
        "library",
        "fastest",
    }
    assert all(math.isfinite(figure["p50_us"]) and figure["p50_us"] > 0 for figure in figures)
    tiles = json.loads((folder / "tables.json").read_text())["tiles"]
    assert {"linear", "lm_head", "moe_gate_up", "moe_down"} == set(tiles)
