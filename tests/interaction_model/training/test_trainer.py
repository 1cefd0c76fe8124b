from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from microturn.interaction_model.native import checkpoint
from microturn.interaction_model.native._errors import BadConfigError
from microturn.interaction_model.native.checkpoint import NETWORK_FILE
from microturn.interaction_model.native.emission import MAX_OUTPUT_TOKENS, output_mask
from microturn.interaction_model.native.flow_head import FlowHeadConfig
from microturn.interaction_model.native.grammar import NO_TARGET, pack, unpack
from microturn.interaction_model.native.mouth import Mouth
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.vocabulary import Token
from microturn.interaction_model.native.voice_file import MOUTH_FILE, load_mouth
from microturn.interaction_model.training import __main__ as command_line
from microturn.interaction_model.training._errors import (
    BadTrainConfigError,
    DivergedError,
    NoScenesError,
    NoStateError,
    StateNotWrittenError,
)
from microturn.interaction_model.training.batches import Batch, Collator
from microturn.interaction_model.training.cast import estimated_word_ms
from microturn.interaction_model.training.curves import read_curves
from microturn.interaction_model.training.epoch import SceneRef
from microturn.interaction_model.training.free_run import (
    Event,
    FreeRunner,
    FreeScore,
    events_of,
    score,
    score_scenes,
)
from microturn.interaction_model.training.learner import StepResult
from microturn.interaction_model.training.metrics import tally
from microturn.interaction_model.training.objective import hidden_states
from microturn.interaction_model.training.optimizer import make_optimizer
from microturn.interaction_model.training.run_parts import put_together
from microturn.interaction_model.training.scene_shards import open_shards, write_shard
from microturn.interaction_model.training.schedule import Schedule
from microturn.interaction_model.training.stop_request import StopRequest
from microturn.interaction_model.training.train_config import (
    OptimizerConfig,
    RowsConfig,
    SavingConfig,
    TrainConfig,
)
from microturn.interaction_model.training.train_state import Totals
from microturn.interaction_model.training.trainer import BEST, CURVES, Limit, Trainer
from tests.interaction_model.training.small_run import (
    EYES,
    TASKS,
    small_config,
    small_mouth,
    small_network,
    small_parts,
    stored,
    write_data,
)

pytestmark = pytest.mark.unit


class Watch:
    """Notes each step, and does something after some of them."""

    def __init__(self, after: Callable[[int], None] = lambda step: None) -> None:
        self.losses: list[float] = []
        self.shares: list[float | None] = []
        self._after = after

    def show(self, step: int, totals: Totals, loss: float, *, done: float | None) -> None:
        self.losses.append(loss)
        self.shares.append(done)
        self._after(step)


class Clock:
    """A second passes whenever it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_a_cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROTURN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


def tensors(trainer: Trainer) -> dict[str, Tensor]:
    """Weights and moments as they were saved last."""
    state = trainer.states.load_newest()
    moments = {
        f"{number}.{name}": value
        for number, each in state.optimizer["state"].items()
        for name, value in each.items()
    }
    return {**state.model, **moments}


def assert_same_bits(one: Trainer, other: Trainer) -> None:
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def test_a_run_that_was_killed_and_goes_on_ends_in_the_same_bits(data: Path, tmp_path: Path) -> None:
    limit = Limit(steps=40, fall_share=0.25)
    whole = Trainer(small_parts(data, experts=True), tmp_path / "whole")
    whole.run(limit, Watch())

    def kill(step: int) -> None:
        if step == 20:
            killed.save()
        if step == 23:  # some steps behind the state, as a machine that dies
            raise KeyboardInterrupt

    killed = Trainer(small_parts(data, experts=True), tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        killed.run(limit, Watch(kill))
    resumed = Trainer(small_parts(data, experts=True), tmp_path / "cut")
    resumed.resume()
    assert resumed.step == 20
    watch = Watch()
    resumed.run(limit, watch)
    assert len(watch.losses) == 20
    assert_same_bits(resumed, whole)
    logs = [
        [r for r in read_curves(t.states.folder / CURVES) if r["kind"] == "train"] for t in (resumed, whole)
    ]
    assert [[r["step"], r["loss"], r["rate"]] for r in logs[0]] == [
        [r["step"], r["loss"], r["rate"]] for r in logs[1]
    ]


def test_a_run_learns_and_its_weights_can_be_loaded(data: Path, tmp_path: Path) -> None:
    config = small_config(
        optimizer=OptimizerConfig(learning_rate=1e-2, warm_up_steps=5),
        saving=SavingConfig(log_steps=5, free_run_scenes=1),
    )
    trainer = Trainer(small_parts(data, config), tmp_path)
    watch = Watch()
    trainer.run(Limit(steps=50, fall_share=0.2), watch)
    assert sum(watch.losses[-5:]) < 0.6 * sum(watch.losses[:5])
    assert watch.shares[-1] == 1.0
    loaded = checkpoint.load(tmp_path / NETWORK_FILE)
    saved = trainer.states.load_newest().model
    assert all(torch.equal(saved[f"network.{name}"], value) for name, value in loaded.state_dict().items())
    assert checkpoint.read_info(tmp_path / BEST / NETWORK_FILE).notes == {"step": "50", "preset": "nano"}
    kinds = [record["kind"] for record in read_curves(tmp_path / CURVES)]
    assert kinds == ["train"] * 10 + ["held_out", "free_run"]


def test_micro_batches_add_up_to_the_gradient_of_one_batch(data: Path, tmp_path: Path) -> None:
    parts = {
        rows: put_together(
            small_config(rows=RowsConfig(rows=rows, micro_turns=40, accumulate=4 // rows)),
            data,
            small_network(),
        )
        for rows in (1, 4)
    }
    for each in parts.values():
        drawn = each.plan.rows(0, 4)
        rows = each.config.rows.rows
        batches = [each.collate(drawn[begin : begin + rows]) for begin in range(0, 4, rows)]
        each.learner._descend(batches, 0)
    one, four = (dict(parts[rows].learner.trainee.named_parameters()) for rows in (1, 4))
    for name, parameter in one.items():
        other = four[name].grad
        assert parameter.grad is not None and other is not None
        assert torch.allclose(parameter.grad, other, rtol=1e-3, atol=1e-6), name


def test_a_step_that_is_not_finite_leaves_the_weights_and_is_counted(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = small_parts(data)
    trainer = Trainer(parts, tmp_path)
    (first,) = (p for name, p in parts.learner.trainee.named_parameters() if name.endswith("lm_head.weight"))

    def poison(gradient: Tensor) -> Tensor:
        return gradient * math.nan if trainer.step == 3 else gradient

    first.register_hook(poison)
    seen: list[Tensor] = []
    with caplog.at_level(logging.WARNING):
        trainer.run(Limit(steps=6), Watch(lambda step: seen.append(first.detach().clone())))
    assert torch.equal(seen[3], seen[2])
    assert not torch.equal(seen[4], seen[3])
    assert (trainer.totals.skipped, trainer.totals.skipped_in_a_row) == (1, 0)
    assert "left out step 4" in caplog.text


def test_a_run_that_is_never_finite_gives_up(data: Path, tmp_path: Path) -> None:
    parts = small_parts(data)
    with torch.no_grad():
        parts.learner.trainee.network.lm_head.weight.fill_(math.inf)
    trainer = Trainer(parts, tmp_path)
    with pytest.raises(DivergedError, match="20 steps in a row up to step 20"):
        trainer.run(Limit(steps=100), Watch())


def test_an_interrupt_finishes_the_step_and_saves(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(small_parts(data), tmp_path)

    def interrupt(step: int) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        trainer.run(Limit(), Watch(interrupt), lambda: stop.is_asked)
    assert signal.getsignal(signal.SIGINT) is before
    assert trainer.states.load_newest().step == 3


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Interrupts as a terminal has them; who starts the tests in the background has them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_a_second_interrupt_ends_at_once() -> None:
    # Raised in this thread: a signal to the process may be taken by a thread of PyTorch, and be noticed later.
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_disk_that_is_full_for_a_while_does_not_end_a_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saving = SavingConfig(checkpoint_minutes=0.01, evaluate_minutes=1e9, log_steps=1)
    trainer = Trainer(small_parts(data, small_config(saving=saving)), tmp_path, Clock())
    is_full = [True]
    sync = os.fsync

    def fsync(number: int) -> None:
        if is_full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(number)

    monkeypatch.setattr("os.fsync", fsync)

    def free_some(step: int) -> None:
        is_full[0] = step < 3

    trainer.run(Limit(steps=5), Watch(free_some))
    assert caplog.text.count("No space left on device") == 2
    assert trainer.states.load_newest().step == 5
    is_full[0] = True
    with pytest.raises(StateNotWrittenError):
        trainer.run(Limit(steps=6), Watch(lambda step: None))


def test_a_run_ends_with_its_minutes_and_falls_in_their_last_share(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(small_parts(data, small_config(saving=SavingConfig(log_steps=1))), tmp_path, Clock())
    trainer.run(Limit(minutes=2, fall_share=0.5), Watch())
    rates = [record["rate"] for record in read_curves(tmp_path / CURVES) if record["kind"] == "train"]
    top = rates.index(max(rates))
    assert rates[top] == rates[top + 1] == pytest.approx(2e-3)
    assert rates[-1] < 0.2 * max(rates)
    assert 8 < len(rates) < 40


def test_slow_first_steps_do_not_shorten_the_fall(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    parts = small_parts(data, small_config(saving=SavingConfig(log_steps=1)))
    step = parts.learner.step

    def slow_at_first(batches: Sequence[Batch], number: int, schedule: Schedule) -> StepResult:
        clock.now += 600 * (number == 0)
        return step(batches, number, schedule)

    monkeypatch.setattr(parts.learner, "step", slow_at_first)
    trainer = Trainer(parts, tmp_path, clock)
    trainer.run(Limit(minutes=14, fall_share=0.5), Watch())
    assert trainer.step > 25


def test_a_run_of_another_seed_or_preset_is_not_gone_on_with(data: Path, tmp_path: Path) -> None:
    Trainer(small_parts(data), tmp_path).run(Limit(steps=1), Watch())
    for changes in ({"seed": 1}, {"preset": "small"}):
        other = Trainer(small_parts(data, small_config(**changes)), tmp_path)
        with pytest.raises(BadTrainConfigError, match="as in the run that goes on"):
            other.resume()


def test_changed_data_are_named_when_a_run_goes_on(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Trainer(small_parts(data), tmp_path / "run").run(Limit(steps=1), Watch())
    other = Trainer(small_parts(write_data(tmp_path / "more", scenes=44)), tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        other.resume()
    assert "data have changed" in caplog.text


def test_no_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoScenesError, match="expected scenes in the folder `train`"):
        put_together(small_config(), tmp_path, small_network())


def test_a_mouth_without_frames_to_learn_from_stays_as_it_is(tmp_path: Path) -> None:
    write_shard(tmp_path / "train", "a", (replace(stored(number), mouth=None) for number in range(4)))
    mouth = small_mouth()
    parts = put_together(small_config(), tmp_path, small_network(), mouth)
    assert parts.learner.trainee.mouth is None
    Trainer(parts, tmp_path / "run").run(Limit(steps=2), Watch())
    written = load_mouth(tmp_path / "run" / MOUTH_FILE).state_dict()
    assert all(torch.equal(written[name], value) for name, value in mouth.state_dict().items())


def test_a_mouth_is_trained_along_and_written_beside_its_network(data: Path, tmp_path: Path) -> None:
    before = small_mouth().state_dict()
    Trainer(small_parts(data), tmp_path).run(Limit(steps=2), Watch())
    after = load_mouth(tmp_path / MOUTH_FILE).state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"flow"}


def test_a_run_can_begin_with_a_network_that_was_trained_before(data: Path) -> None:
    torch.manual_seed(5)
    network = Network(small_network())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trainee = put_together(small_config(seed=1), data, network).learner.trainee
    assert all(torch.equal(value, before[name]) for name, value in trainee.network.state_dict().items())


def test_a_mouth_of_another_width_is_refused(data: Path) -> None:
    mouth = Mouth(FlowHeadConfig(condition=48))
    with pytest.raises(BadConfigError, match="the network's width 32, got 48"):
        put_together(small_config(), data, small_network(), mouth)


def test_every_parameter_is_learned_once_and_only_matrices_decay(data: Path) -> None:
    trainee = small_parts(data).learner.trainee
    groups = make_optimizer(trainee, OptimizerConfig(weight_decay=0.1)).param_groups
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(map(id, trainee.parameters()))
    names = {id(p): name for name, p in trainee.named_parameters()}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert "network.model.layers.0.self_attn.q_proj.weight" in decayed
    assert "network.lm_head.weight" in decayed
    for ending in (
        "embed_tokens.weight",
        "norm.weight",
        "conv1d.weight",
        "clock.hands.weight",
        "rel_logits_proj.proj",
    ):
        assert not [name for name in decayed if name.endswith(ending)]


def test_matrices_of_a_wider_network_learn_slower(data: Path) -> None:
    sizes = small_network()
    backbone = replace(sizes.backbone, logits_divisor=4.0)
    parts = put_together(small_config(), data, replace(sizes, backbone=backbone), small_mouth())
    factors = [
        group["factor"] for group in make_optimizer(parts.learner.trainee, OptimizerConfig()).param_groups
    ]
    assert factors == [0.25, 1.0, 1.0]


@pytest.mark.parametrize(
    "changes", [{"rows": RowsConfig(rows=0)}, {"threads": 0}, {"task_weights": {"cue": -1.0}}]
)
def test_a_senseless_run_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadTrainConfigError, match="a training run needs"):
        TrainConfig(**changes)  # type: ignore[arg-type]  # each is of its field


# What a network does when it runs freely.


def test_a_free_run_says_what_the_trained_form_finds_most_likely(data: Path) -> None:
    torch.manual_seed(3)
    network = Network(small_network())
    with torch.no_grad():
        network.lm_head.weight.mul_(3)
    scenes = [stored(0, turns=4), stored(1, turns=4)]
    ran = FreeRunner(network, scenes, lambda word, before: 0).run()
    for number, outputs in enumerate(ran):
        assert _greedy_by_hand(network, data, number, len(outputs)) == outputs


def _greedy_by_hand(network: Network, data: Path, number: int, turns: int) -> list[tuple[int, ...]]:
    """Emit by running the whole sequence so far through the trained form again and again."""
    allowed = torch.from_numpy(output_mask())
    scene = stored(number, turns)
    inputs, _ = unpack(scene.packed)
    outputs: list[tuple[int, ...]] = [()] * turns
    for turn in range(turns):
        for _ in range(MAX_OUTPUT_TOKENS):
            packed = pack(inputs, outputs, scene.packed.levels)
            folder = write_shard(data / "by-hand", "a", [replace(scene, packed=packed, mouth=None)])
            batch = Collator(open_shards(folder), TASKS, 900, EYES)([(SceneRef(0, 0),)])
            with torch.no_grad():
                scores = network.logits(hidden_states(network, batch)[0, int(packed.last[turn])])
            best = int(scores.masked_fill(~allowed, -torch.inf).argmax())
            if best == Token.END:
                break
            outputs[turn] = (*outputs[turn], best)
    return outputs


def test_events_are_matched_one_to_one_within_a_micro_turn() -> None:
    wanted = [Event("said", ("red",), turn) for turn in (4, 10, 20)] + [Event("heard", ("red",), 3)]
    done = [Event("said", ("red",), turn) for turn in (3, 10, 11, 22)] + [Event("said", ("blue",), 4)]
    found = score(wanted, done, micro_turns=300)
    assert found["said"] == FreeScore(wanted=3, hits=2, exact=1, false=3, minutes=1.0)
    assert found["heard"] == FreeScore(wanted=1, hits=0, exact=0, false=0, minutes=1.0)
    assert found["said"].hit_rate == pytest.approx(2 / 3)
    assert found["said"].false_per_minute == 3.0
    assert found["task"].hit_rate is None


def test_right_outputs_hit_everything_and_silence_nothing() -> None:
    outputs = unpack(stored(0).packed)[1]
    events = events_of(outputs)
    perfect, silent = score(events, events, 12), score(events, [], 12)
    assert {kind: each.hit_rate for kind, each in perfect.items() if each.wanted} == {
        "heard": 1.0,
        "said": 1.0,
    }
    assert sum(each.false for each in perfect.values()) == sum(each.hits for each in silent.values()) == 0
    assert silent["said"].wanted > 0


def test_scores_of_scenes_add_up() -> None:
    network = Network(small_network())
    both = score_scenes(network, [stored(0), stored(2)], estimated_word_ms)
    each = [score_scenes(network, [stored(number)], estimated_word_ms) for number in (0, 2)]
    assert both == {kind: each[0][kind] + each[1][kind] for kind in both}
    assert both["said"].minutes == pytest.approx(2 * 12 * 0.2 / 60)


def test_held_out_scenes_are_described_by_task(data: Path) -> None:
    parts = small_parts(data)
    found = parts.evaluator.held_out(parts.learner.trainee.network, rows=2, batches=50)
    (ref,) = list(parts.evaluator._scenes)[:1]
    assert 0 < found["loss"] < 20
    measured = [task for task, each in found["tasks"].items() if each["loss"] is not None]
    assert set(measured) == {entry.task for entry in parts.evaluator._scenes.values()}
    shards = open_shards(data / "train")
    batch = Collator(shards, TASKS, 900, EYES)([tuple(parts.evaluator._scenes)])
    assert int((batch.targets != NO_TARGET).sum()) < 900 and ref in parts.evaluator._scenes
    alone = tally(parts.learner.trainee.network.eval(), batch, len(TASKS))
    assert found["loss"] == pytest.approx(alone.mean_nats(), rel=1e-4)


# The command line.


def test_the_command_line_trains_goes_on_and_draws(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        command_line, "put_together", lambda config, folder, network, mouth: small_parts(folder, config)
    )
    told = ["train", "--data", str(data), "--out", str(tmp_path), "--threads", "1", "--micro-turns", "30"]
    told += ["--rows", "1"]
    assert run_command(*told, "--steps", "10", "--weight", "look=0.5") == 0
    assert run_command(*told, "--steps", "20") == 1
    assert "pass --resume" in capsys.readouterr().err
    assert run_command(*told, "--steps", "20", "--resume") == 0
    steps = [record["step"] for record in read_curves(tmp_path / CURVES) if record["kind"] == "train"]
    assert steps == [10, 20]
    assert run_command("curves", str(tmp_path)) == 0
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_the_command_line_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("curves", str(tmp_path)) == 1
    assert "expected a log with at least one line" in capsys.readouterr().err
    assert run_command("train", "--data", str(tmp_path), "--out", str(tmp_path / "out")) == 1
    assert "write shards there first" in capsys.readouterr().err


def test_a_run_that_never_began_cannot_go_on(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NoStateError):
        Trainer(small_parts(data), tmp_path).resume()


def run_command(*arguments: str) -> int:
    """Run the command line and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["training", *arguments])
        try:
            command_line.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


@pytest.mark.slow
@pytest.mark.skipif(
    "MICROTURN_LONG_TESTS" not in os.environ or shutil.which("g++") is None,
    reason="needs two minutes and g++; set MICROTURN_LONG_TESTS=1",
)
@pytest.mark.timeout(240)
@pytest.mark.filterwarnings("ignore")  # PyTorch's compiler warns of its own code
def test_a_compiled_run_learns_the_same(data: Path, tmp_path: Path) -> None:
    losses = {}
    for is_compiled in (False, True):
        watch = Watch()
        config = small_config(is_compiled=is_compiled)
        Trainer(small_parts(data, config), tmp_path / str(is_compiled)).run(Limit(steps=3), watch)
        losses[is_compiled] = watch.losses
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)
