"""What rows see of splits, against the definition key by key."""

from __future__ import annotations

import pytest
import torch

from microturn.kernels.cpu.sight import Sight, Zone, seen_by_rows, zones
from microturn.kernels.spec import CPU_NEAR_SPLIT, CPU_SPLIT

pytestmark = pytest.mark.unit

SIGHTS = [
    Sight.of(*limits) for limits in ((0, 0, 0), (0, 0, 600), (128, 0, 128), (130, 4, 0), (300, 600, 300))
]


def _sees(sight: Sight, position: int, key: int) -> bool:
    if key > position:
        return False
    return not sight.window or position - key < sight.window or key < sight.sinks


def _keys(sight: Sight, zone: Zone) -> range:
    return range(zone.start * sight.split, zone.stop * sight.split)


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("first", [0, 127, 500, 1023, 1500])
@pytest.mark.parametrize(("tokens", "repeats", "rows"), [(1, 2, 4), (5, 2, 12), (30, 1, 32)])
def test_rows_see_what_the_definition_says(
    sight: Sight, first: int, tokens: int, repeats: int, rows: int
) -> None:
    found = zones(sight, first, tokens)
    looked_at = {key for zone in found for key in _keys(sight, zone)}
    for row in (0, repeats, rows - 1):
        position = first + min(row // repeats, tokens - 1)
        assert all(key in looked_at for key in range(position + 1) if _sees(sight, position, key))
        for zone in found:
            expected = torch.tensor([_sees(sight, position, key) for key in _keys(sight, zone)])
            if zone.kind == "plain":
                assert expected.all()
                continue
            seen = seen_by_rows(sight, zone, first, tokens, repeats, rows)
            assert torch.equal(seen.scores[row, seen.margin :] == 0, expected)
            none_of_split = ~expected.view(-1, sight.split).any(1)
            told = torch.zeros_like(none_of_split) if seen.unseen is None else seen.unseen[:, 0, row]
            assert torch.equal(told, none_of_split)


def test_a_small_window_in_float32_has_small_splits() -> None:
    assert Sight.of(128, 0, 0).split == CPU_NEAR_SPLIT.keys
    assert Sight.of(128, 0, 0, torch.bfloat16).split == CPU_SPLIT.keys
    assert Sight.of(0, 0, 0).split == Sight.of(1000, 0, 0).split == CPU_SPLIT.keys
