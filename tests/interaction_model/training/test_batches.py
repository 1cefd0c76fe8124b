from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from microturn.interaction_model.native.eyes import cut_patches
from microturn.interaction_model.native.grammar import NO_TARGET, PositionKind
from microturn.interaction_model.native.vocabulary import Token
from microturn.interaction_model.training._errors import BadShardError
from microturn.interaction_model.training.batches import (
    LATEST_BEGIN,
    NO_SEGMENT,
    NO_TASK,
    Collator,
    steps_of,
)
from microturn.interaction_model.training.epoch import (
    EpochPlan,
    SceneRef,
    all_scenes,
    data_fingerprint,
    held_out_scenes,
    training_scenes,
)
from microturn.interaction_model.training.prefetch import Prefetcher
from microturn.interaction_model.training.scene_shards import (
    SceneEntry,
    SceneShard,
    StoredScene,
    open_shards,
    write_shard,
)
from tests.interaction_model.training.small_run import (
    EYES,
    TASKS,
    film_of,
    made_up,
    mouth_of,
    stored,
    write_data,
)

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def scenes(count: int, tokens: int = 70) -> dict[SceneRef, SceneEntry]:
    return {SceneRef(0, n): SceneEntry(TASKS[n % 2], "train", n, tokens + n % 13, 12) for n in range(count)}


def refs(*numbers: int) -> tuple[SceneRef, ...]:
    """Where scenes lie that `write_data` wrote by number."""
    return tuple(SceneRef(number // 20, number % 20) for number in numbers)


def test_a_scene_is_read_as_it_was_written(data: Path) -> None:
    shards = open_shards(data)
    assert [len(shard) for shard in shards] == [20, 20]
    for number in range(40):
        (ref,) = refs(number)
        read, wanted = shards[ref.shard].scene(ref.number), stored(number)
        assert (read.task, read.split, read.seed) == (wanted.task, "train", number)
        for field in ("kinds", "ids", "targets", "micro_turns", "last", "levels"):
            assert np.array_equal(getattr(read.packed, field), getattr(wanted.packed, field)), field
        assert read.mouth is not None
        for field in ("turns", "frames", "symbols", "measures"):
            assert np.array_equal(getattr(read.mouth, field), getattr(wanted.mouth, field)), field
        assert list(read.films) == list(wanted.films)
        assert all(np.array_equal(read.films[turn], pixels) for turn, pixels in wanted.films.items())


def test_a_silent_scene_has_no_targets_for_the_mouth(tmp_path: Path) -> None:
    folder = write_shard(tmp_path, "a", [replace(stored(0), mouth=None), stored(2)])
    shard = SceneShard(folder)
    assert shard.scene(0).mouth is None
    mouth = shard.scene(1).mouth
    assert mouth is not None and np.array_equal(mouth.frames, mouth_of(2).frames)


def test_a_shard_that_was_cut_is_named(tmp_path: Path) -> None:
    folder = write_shard(tmp_path, "scenes-7", [stored(0), stored(1)])
    arrays = folder / "arrays.bin"
    arrays.write_bytes(arrays.read_bytes()[:-500])
    with pytest.raises(BadShardError, match="scenes-7"):
        SceneShard(folder).scene(0)
    (folder / "index.json").write_text("{")
    with pytest.raises(BadShardError, match="expected an index of scenes, got JSONDecodeError"):
        SceneShard(folder)


def test_a_shard_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = write_shard(tmp_path, "a", [stored(0)])
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "vocabulary": "other"}))
    with pytest.raises(BadShardError, match="with the vocabulary"):
        SceneShard(folder)


def test_a_killed_writer_leaves_no_shard_behind(tmp_path: Path) -> None:
    def killed() -> Iterator[StoredScene]:
        yield stored(0)
        raise KeyboardInterrupt

    write_shard(tmp_path, "a", [stored(4)])
    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path, "a", killed())
    (shard,) = open_shards(tmp_path)
    assert shard.scene(0).seed == 4


def test_training_and_held_out_scenes_are_all_scenes_and_share_none(data: Path) -> None:
    shards = open_shards(data)
    trained, held = training_scenes(shards), held_out_scenes(shards)
    assert held
    assert not trained.keys() & held.keys()
    assert trained | held == all_scenes(shards)


def test_an_epoch_holds_every_scene_as_often_as_its_weight_says() -> None:
    plan = EpochPlan(scenes(100), 250, {TASKS[0]: 2.0, TASKS[1]: 0.0}, seed=3)
    counts = Counter(ref for row in plan.epoch(0) for ref in row)
    assert counts == {ref: 2 for ref in scenes(100) if ref.number % 2 == 0}


def test_a_fractional_weight_is_a_share_of_scenes_over_epochs() -> None:
    plan = EpochPlan(scenes(200), 250, {TASKS[1]: 0.25}, seed=3)
    drawn = [ref for epoch in range(20) for row in plan.epoch(epoch) for ref in row]
    rare = sum(ref.number % 2 == 1 for ref in drawn)
    assert sum(ref.number % 2 == 0 for ref in drawn) == 2000
    assert 400 < rare < 600


def test_rows_are_full_and_never_overfull() -> None:
    entries = scenes(500)
    rows = EpochPlan(entries, 750, {}, seed=0).epoch(0)
    used = [sum(entries[ref].tokens for ref in row) for row in rows]
    assert max(used) <= 750
    assert sum(used) / (750 * len(rows)) > 0.93


def test_rows_depend_on_seed_and_number_alone() -> None:
    entries = scenes(60)
    walked = EpochPlan(entries, 250, {}, seed=1)
    in_order = [walked.rows(4 * step, 4) for step in range(30)]
    jumped = EpochPlan(entries, 250, {}, seed=1)
    assert [jumped.rows(4 * step, 4) for step in reversed(range(30))] == in_order[::-1]
    assert EpochPlan(entries, 250, {}, seed=2).rows(0, 4) != in_order[0]
    assert walked.epoch(0) != walked.epoch(1)


def test_small_weights_leave_no_epoch_empty() -> None:
    plan = EpochPlan(scenes(1), 250, {TASKS[0]: 1e-9}, seed=0)
    assert plan.rows(0, 3) == [(SceneRef(0, 0),)] * 3


def test_nothing_to_draw_from_is_refused() -> None:
    with pytest.raises(ValueError, match="weight above 0"):
        EpochPlan(scenes(4), 250, dict.fromkeys(TASKS, 0.0), seed=0)


def test_a_changed_scene_changes_the_fingerprint() -> None:
    assert data_fingerprint(scenes(5)) == data_fingerprint(scenes(5))
    assert data_fingerprint(scenes(5)) != data_fingerprint(scenes(5, tokens=71))


def test_a_batch_holds_the_scenes_of_its_rows_in_order(data: Path) -> None:
    collate = Collator(open_shards(data), TASKS, 300, EYES)
    batch = collate([refs(0, 1), refs(3)])
    first, second, third = (made_up(n) for n in (0, 1, 3))
    a, b = len(first.kinds), len(first.kinds) + len(second.kinds)
    assert batch.targets[0, :a].tolist() == first.targets.tolist()
    assert batch.targets[0, a:b].tolist() == second.targets.tolist()
    assert batch.segments[0].tolist() == [0] * b + [NO_SEGMENT] * (300 - b)
    assert batch.tasks[0].tolist() == [0] * a + [1] * (b - a) + [NO_TASK] * (300 - b)
    assert set(batch.ids[0, b:].tolist()) == {int(Token.PAD)}
    assert set(batch.targets[0, b:].tolist()) == {NO_TARGET}
    assert np.array_equal(batch.levels, np.concatenate([first.levels, second.levels, third.levels]))
    patches = [cut_patches(film_of(n, turn), EYES) for n in (1, 3) for turn in range(12)]
    assert torch.equal(batch.patches, torch.cat(patches).half())
    assert batch.used == b + len(third.kinds)
    assert batch.audio_s == pytest.approx(3 * 12 * 0.2)


def test_a_conversation_goes_on_until_a_request_that_still_holds(tmp_path: Path) -> None:
    kept = replace(stored(1), task="hearing")
    write_shard(tmp_path, "a", [stored(0), kept, stored(2)])
    collate = Collator(open_shards(tmp_path), [*TASKS, "hearing"], 300, EYES)
    batch = collate([tuple(SceneRef(0, number) for number in range(3))])
    ends = np.cumsum([len(made_up(number).kinds) for number in range(3)])
    assert batch.segments[0, : ends[2]].tolist() == [0] * ends[1] + [1] * (ends[2] - ends[1])
    clock = batch.times[0, :, 0]
    first, last = int(clock[0]), int(clock[ends[1] - 1])
    assert last - first == made_up(0).micro_turns[-1] + 1 + made_up(1).micro_turns[-1]
    assert clock[ends[1]] != last + 1


def test_conversations_begin_at_many_times_and_often_at_zero(data: Path) -> None:
    collate = Collator(open_shards(data), TASKS, 300, EYES)
    begins = [int(collate([refs(number)]).times[0, 0, 0]) for number in range(40)]
    assert 4 <= begins.count(0) <= 20
    assert len(set(begins)) > 20 and max(begins) < LATEST_BEGIN


def test_ids_of_sound_and_patches_are_their_rows(data: Path) -> None:
    batch = Collator(open_shards(data), TASKS, 300, EYES)([refs(0, 1), refs(3)])
    for kind, rows in ((PositionKind.AUDIO, batch.levels), (PositionKind.PATCH, batch.patches)):
        assert batch.ids[batch.kinds == kind].tolist() == list(range(len(rows)))
    outputs = [made_up(n).ids[made_up(n).kinds == PositionKind.OUTPUT] for n in (0, 1, 3)]
    assert batch.ids[batch.kinds == PositionKind.OUTPUT].tolist() == np.concatenate(outputs).tolist()


def test_the_mouth_speaks_from_the_last_position_of_its_micro_turns(data: Path) -> None:
    collate = Collator(open_shards(data), TASKS, 300, EYES)
    batch = collate([refs(0), refs(2, 1)])
    kinds, turns = batch.kinds.flatten(), batch.times[..., 0].flatten()
    is_last = torch.cat([turns[1:] != turns[:-1], torch.tensor([True])])
    assert bool(is_last[batch.mouth.positions].all())
    assert bool((kinds[batch.mouth.positions] == PositionKind.OUTPUT).all())
    wanted = np.concatenate([mouth_of(n).frames for n in (0, 2, 1)]).astype(np.float32)
    assert np.array_equal(batch.mouth.frames, wanted)


def test_a_scene_longer_than_its_row_is_cut_between_micro_turns(data: Path) -> None:
    batch = Collator(open_shards(data), TASKS, 40, EYES)([refs(1)])
    whole = made_up(1)
    used = batch.used
    assert 40 - 11 < used <= 40
    assert used - 1 in whole.last.tolist()
    turns = int(whole.micro_turns[used - 1]) + 1
    assert len(batch.levels) == 4 * turns
    assert len(batch.patches) == 4 * turns
    assert len(batch.mouth.positions) == int((mouth_of(1).turns < turns).sum())


def test_steps_go_on_from_any_step(data: Path) -> None:
    shards = open_shards(data)
    plan = EpochPlan(training_scenes(shards), 200, {}, seed=0)
    collate = Collator(shards, TASKS, 200, EYES)
    begun = steps_of(plan, collate, 2, 2, 0)
    walked = [next(begun) for _ in range(6)]
    later = next(steps_of(plan, collate, 2, 2, 5))
    assert [len(step) for step in walked] == [2] * 6
    for one, other in zip(walked[5], later, strict=True):
        assert torch.equal(one.ids, other.ids)
        assert torch.equal(one.levels, other.levels)


def test_a_prefetcher_gives_everything_in_order() -> None:
    with Prefetcher(iter(range(50)), depth=3) as ready:
        assert list(ready) == list(range(50))
        with pytest.raises(StopIteration):
            next(ready)


def test_a_prefetcher_runs_only_so_far_ahead() -> None:
    made: list[int] = []
    third = threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 3:
                third.set()
            yield number

    with Prefetcher(items(), depth=2) as ready:
        assert next(ready) == 0
        assert third.wait(5)
        assert len(made) == 4  # one taken, two in the queue, one in the hand
    assert len(made) == 4


def test_an_error_of_the_maker_is_raised_where_its_item_would_be() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    with Prefetcher(items()) as ready:
        assert next(ready) == 1
        for _ in range(2):
            with pytest.raises(OSError, match="the disk is gone"):
                next(ready)
