"""Positions become embeddings by the part that their kind names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from microturn.interaction_model.native import BadEmbeddingsError
from microturn.interaction_model.native.embedding import embed_positions
from microturn.interaction_model.native.grammar import Inputs, Packed, PositionKind, pack
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.presets import preset
from microturn.interaction_model.native.stopwatches import Numbers, packed_times
from microturn.interaction_model.native.vocabulary import Token
from tests.interaction_model.native.inkling import draw

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def network() -> Network:
    made = Network(preset("nano"))
    draw(made.clock, 1)
    return made


def scene() -> Packed:
    levels = np.random.default_rng(0).integers(0, 16, (12, 80)).astype(np.uint8)
    inputs = [Inputs(), Inputs(patches=3, text=("stop",)), Inputs(background=(("sunny",),))]
    return pack(inputs, [(), (), ()], levels)


def shown(packed: Packed) -> Numbers:
    """(T, 3): what the clock shows."""
    one = np.zeros_like(packed.ids)
    return packed_times(packed.kinds, packed.ids, packed.micro_turns, one)


def embedded(network: Network, packed: Packed) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    patches = torch.rand(3, 2, 40, 40, 3, generator=torch.Generator().manual_seed(0))
    levels = torch.from_numpy(packed.levels)
    rows = (torch.from_numpy(part)[None] for part in (packed.kinds, packed.ids, shown(packed)))
    return embed_positions(network, *rows, levels=levels, patches=patches), levels, patches


def test_every_position_is_embedded_by_its_own_part(network: Network) -> None:
    packed = scene()
    with torch.no_grad():
        got, levels, patches = embedded(network, packed)
        heard, seen = network.audio_tower(levels), network.vision_tower(patches)
        for position, (kind, number) in enumerate(zip(packed.kinds, packed.ids.tolist(), strict=True)):
            if kind == PositionKind.AUDIO:
                wanted = heard[number]
            elif kind == PositionKind.PATCH:
                wanted = seen[number]
            else:
                wanted = network.model.embed_tokens(torch.tensor(number))
            if kind == PositionKind.NOW:
                assert number == Token.NOW
                wanted = wanted + network.clock(torch.from_numpy(shown(packed)[position]))
            torch.testing.assert_close(got[0, position], wanted)
    assert set(packed.kinds.tolist()) == {0, 1, 2, 3}


def test_gradients_reach_ears_eyes_words_and_clock(network: Network) -> None:
    got, _, _ = embedded(network, scene())
    (got * torch.randn(got.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for part in (network.model.embed_tokens, network.audio_tower, network.vision_tower, network.clock):
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())
    network.zero_grad()


def test_shapes_and_kinds_that_do_not_fit_are_named(network: Network) -> None:
    flat, one = torch.zeros(3, dtype=torch.int32), torch.zeros(1, 3, dtype=torch.int32)
    nothing = {"levels": torch.zeros(0, 80, dtype=torch.uint8), "patches": torch.zeros(0, 2, 40, 40, 3)}
    times = torch.zeros(1, 3, 3, dtype=torch.int64)
    for wrong in ((flat, flat, times[0]), (one, one[:, :2], times), (one, one, one)):
        with pytest.raises(BadEmbeddingsError, match=r"\(B, T\), \(B, T\) and \(B, T, 3\)"):
            embed_positions(network, *wrong, **nothing)
    with pytest.raises(BadEmbeddingsError, match="up to 4, got 9"):
        embed_positions(network, one + 9, one, times, **nothing)
