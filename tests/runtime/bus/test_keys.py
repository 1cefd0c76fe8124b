from __future__ import annotations

import pytest

from microturn.runtime.bus import BusNameError
from microturn.runtime.bus.keys import Keys, checked_name

pytestmark = pytest.mark.unit


def test_all_keys_of_a_task_share_one_hash_slot_and_the_tenants_prefix() -> None:
    keys = Keys("acme", 16)
    shard = keys.shard_of("session-1")
    names = [
        *keys.of_task(shard, "t", "r"),
        *keys.of_session("session-1"),
        keys.lane(shard, "urgent"),
        keys.idempotency(shard, "any { key }"),
        keys.dead(shard),
    ]
    assert {name.split("{")[1].split("}")[0] for name in names} == {f"s{shard:02d}"}
    assert all(name.startswith("mt:acme:") for name in names)
    assert len(set(names)) == len(names)


def test_sessions_spread_over_all_shards_and_stay_on_theirs() -> None:
    keys = Keys("acme", 16)
    shards = [keys.shard_of(f"session-{number}") for number in range(1000)]
    assert set(shards) == set(range(16))
    assert shards == [Keys("acme", 16).shard_of(f"session-{number}") for number in range(1000)]


@pytest.mark.parametrize("name", ["", "a{b}", "a b", "a:b", "a/b", "x" * 201, "naïve"])
def test_a_name_that_could_change_a_key_is_refused(name: str) -> None:
    with pytest.raises(BusNameError, match="choose another tenant"):
        checked_name("tenant", name)
