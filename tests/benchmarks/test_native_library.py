"""The alternative that determinism is compared with computes the same, so that its time is one of the same work."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip(
    "transformers", reason="the small networks of the tests stand beside those of transformers"
)

from native_library import Attend, LibraryDecoder, attend_by_hand, attend_fused, skewed

from tests.interaction_model.native.small_networks import CONFIGS, cuts, random_embeddings, small_backbone

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("attend", [attend_by_hand, attend_fused])
@pytest.mark.parametrize("sizes", [(90,), (1,), (5, 1, 17)])
def test_it_equals_the_trained_form_however_a_session_is_cut(attend: Attend, sizes: tuple[int, ...]) -> None:
    backbone, tokens = small_backbone(CONFIGS["dense"]), random_embeddings(90, 48)
    library = LibraryDecoder(backbone, 90, attend)
    found = torch.cat([library.advance(part) for part in tokens.split(cuts(90, sizes))])
    with torch.no_grad():
        wanted = backbone(tokens[None])[0]
    torch.testing.assert_close(found, wanted, atol=3e-5, rtol=3e-5)


def test_after_a_rewind_the_same_tokens_give_the_same_again() -> None:
    library = LibraryDecoder(small_backbone(CONFIGS["dense"]), 60)
    tokens = random_embeddings(50, 48)
    library.advance(tokens[:40])
    inputs = library.convolution_inputs()
    first = library.advance(tokens[40:])
    library.rewind(40, inputs)
    assert torch.equal(library.advance(tokens[40:]), first)


def test_what_it_does_not_compute_is_refused() -> None:
    with pytest.raises(ValueError, match="dense and without log_scaling"):
        LibraryDecoder(small_backbone(CONFIGS["sparse"]), 8)


@pytest.mark.parametrize("beyond", [0.0, -torch.inf])
def test_biases_stand_at_the_distances_they_are_for(beyond: float) -> None:
    bias = torch.arange(2 * 3 * 4, dtype=torch.float32).view(2, 3, 4)
    mask = skewed(bias, beyond)
    assert mask.shape == (2, 3, 6)
    for row in range(3):
        for column in range(6):
            distance = 3 + row - column
            wanted = bias[:, row, 3 - distance] if 0 <= distance < 4 else None
            if wanted is None:
                wanted = torch.full((2,), beyond if distance >= 4 else -torch.inf)
            assert torch.equal(mask[:, row, column], wanted), (row, column)
