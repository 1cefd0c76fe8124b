"""The trained form of the backbone: equal to Inkling's, gradients too, and blind to what it must not see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from microturn.interaction_model.native import BadConfigError, BadEmbeddingsError
from microturn.interaction_model.native.attention import Attention
from microturn.interaction_model.native.backbone import Backbone
from microturn.interaction_model.native.config import BackboneConfig, ExpertsConfig, HeadsConfig
from microturn.interaction_model.native.experts import Router
from microturn.interaction_model.native.presets import preset
from tests.interaction_model.native.inkling import draw, inkling_hidden, inkling_language_model
from tests.interaction_model.native.small_networks import (
    CONFIGS,
    DENSE,
    SPARSE,
    Name,
    random_embeddings,
    small_backbone,
)

pytestmark = pytest.mark.unit

LENGTHS = (1, 3, 11, 12, 13, 40, 77)
"""Shorter than, equal to and longer than windows, reaches and blocks."""


def pair(name: Name, dtype: torch.dtype) -> tuple[Backbone, Any]:
    """Our backbone and Inkling's language model with the same weights."""
    config = CONFIGS[name]
    theirs = inkling_language_model(config, dtype)
    ours = Backbone(config).to(dtype)
    ours.load_state_dict(theirs.model.state_dict())
    return ours, theirs


@pytest.mark.parametrize("name", CONFIGS)
def test_hidden_states_equal_inklings_in_float64(name: Name) -> None:
    ours, theirs = pair(name, torch.float64)
    for length in LENGTHS:
        embeddings = random_embeddings(2, length, 48, dtype=torch.float64, seed=length)
        with torch.no_grad():
            difference = (ours(embeddings) - inkling_hidden(theirs, embeddings)).abs().max()
        assert difference < 1e-11, (length, float(difference))


@pytest.mark.parametrize("name", CONFIGS)
def test_hidden_states_equal_inklings_in_float32(name: Name) -> None:
    ours, theirs = pair(name, torch.float32)
    embeddings = random_embeddings(3, 60, 48)
    with torch.no_grad():
        torch.testing.assert_close(ours(embeddings), inkling_hidden(theirs, embeddings), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_of_every_weight_equal_inklings(name: Name) -> None:
    ours, theirs = pair(name, torch.float64)
    embeddings = random_embeddings(2, 40, 48, dtype=torch.float64)
    towards = random_embeddings(2, 40, 48, dtype=torch.float64, seed=3)
    (ours(embeddings) * towards).sum().backward()
    (inkling_hidden(theirs, embeddings) * towards).sum().backward()
    wanted = dict(theirs.model.named_parameters())
    for key, parameter in ours.named_parameters():
        if key.startswith("embed_tokens"):
            assert parameter.grad is None
            continue
        assert parameter.grad is not None, key
        torch.testing.assert_close(parameter.grad, wanted[key].grad, atol=1e-10, rtol=1e-9, msg=key)
        assert parameter.grad.abs().max() > 1e-6, f"{key} does not matter in this test"


def test_embeddings_of_ids_are_normed_as_inklings() -> None:
    ours, theirs = pair("dense", torch.float32)
    ids = torch.tensor([[0, 5, 40]])
    assert torch.equal(ours.embed_tokens(ids), theirs.model.embed_tokens(ids))


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_sequences_do_not_see_each_other(name: Name) -> None:
    backbone = small_backbone(CONFIGS[name], torch.float64)
    lengths = (30, 1, 2, 17)
    alone = [random_embeddings(1, length, 48, dtype=torch.float64, seed=length) for length in lengths]
    segments = torch.repeat_interleave(torch.tensor([7, 3, 4, 7]), torch.tensor(lengths))[None]
    with torch.no_grad():
        packed = backbone(torch.cat(alone, 1), segments)
        for part, sequence in zip(packed.split(lengths, 1), alone, strict=True):
            torch.testing.assert_close(part, backbone(sequence), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("name", CONFIGS)
def test_no_token_sees_a_later_one(name: Name) -> None:
    backbone = small_backbone(CONFIGS[name], torch.float64)
    embeddings = random_embeddings(1, 50, 48, dtype=torch.float64)
    changed = embeddings.clone()
    changed[:, 30:] = 1.0
    with torch.no_grad():
        before, after = backbone(embeddings), backbone(changed)
    torch.testing.assert_close(before[:, :30], after[:, :30], atol=1e-12, rtol=0)
    assert (before[:, 30:] - after[:, 30:]).abs().amax(-1).min() > 1e-3


def test_a_layer_without_global_attention_forgets_what_left_its_window() -> None:
    config = BackboneConfig(
        vocabulary=5,
        width=16,
        attention=("sliding",),
        mlps=("dense",),
        sliding_heads=HeadsConfig(heads=2, groups=1, head_dim=8),
        global_heads=HeadsConfig(heads=2, groups=1, head_dim=8),
        window=6,
        reach=6,
        inner=16,
    )
    backbone = small_backbone(config, torch.float64)
    embeddings = random_embeddings(1, 40, 16, dtype=torch.float64)
    changed = embeddings.clone()
    changed[:, 0] += 1.0
    with torch.no_grad():
        moved = (backbone(embeddings) - backbone(changed)).abs().amax(-1)[0]
    # Six tokens of the window, and three more behind each of the keys' and both branches' convolutions.
    reached = 6 - 1 + 3 * 3
    assert moved[reached] > 0
    assert (moved[reached + 1 :] == 0).all()


def test_long_sequences_are_cut_into_blocks_without_a_seam() -> None:
    config = BackboneConfig(
        vocabulary=5,
        width=16,
        attention=("global",),
        mlps=("dense",),
        sliding_heads=HeadsConfig(heads=2, groups=1, head_dim=8),
        global_heads=HeadsConfig(heads=2, groups=1, head_dim=8),
        window=6,
        reach=400,
        inner=16,
    )
    theirs = inkling_language_model(config, torch.float64)
    ours = Backbone(config).to(torch.float64)
    ours.load_state_dict(theirs.model.state_dict())
    embeddings = random_embeddings(1, 700, 16, dtype=torch.float64)
    with torch.no_grad():
        assert (ours(embeddings) - inkling_hidden(theirs, embeddings)).abs().max() < 1e-11


def test_the_correction_moves_the_choice_and_not_the_weights() -> None:
    config = ExpertsConfig(count=5, chosen=2, shared=1, inner=8, scale=3.0)
    router = Router(16, config)
    draw(router, 4)
    with torch.no_grad():
        router.global_scale.fill_(1.0)
        router.e_score_correction_bias.copy_(torch.tensor([0.0, 9.0, 0.0, 8.0, 0.0]))
        choice = router(random_embeddings(20, 16))
    assert choice.ids.tolist() == [[1, 3]] * 20
    total = choice.weights.sum(1) + choice.shared_weights.sum(1)
    torch.testing.assert_close(total, torch.full((20,), 3.0))
    assert choice.weights.std() > 0.01


def test_a_few_steps_of_training_learn_a_sequence_by_heart() -> None:
    torch.manual_seed(0)
    backbone = Backbone(SPARSE)
    head = torch.nn.Linear(48, 41, bias=False)
    ids = torch.randint(0, 41, (1, 33), generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=5e-3)

    def loss() -> Tensor:
        return F.cross_entropy(head(backbone(backbone.embed_tokens(ids[:, :-1])))[0], ids[0, 1:])

    first = loss().item()
    for _ in range(40):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert 3 < first < 5
    assert loss().item() < 0.3


@pytest.mark.parametrize("name", CONFIGS)
def test_bfloat16_autocast_stays_near_float32_and_keeps_float32_gradients(name: Name) -> None:
    backbone = small_backbone(CONFIGS[name])
    embeddings = random_embeddings(2, 40, 48)
    segments = torch.arange(40).expand(2, -1) // 25
    with torch.autocast("cpu", torch.bfloat16):
        narrow = backbone(embeddings, segments).float()
    with torch.no_grad():
        wide = backbone(embeddings, segments)
    # A sparse layer may choose another expert where two scores are near, so a few tokens may differ more.
    assert (narrow - wide).abs().median() < 0.05
    narrow.square().sum().backward()
    gradients = [parameter.grad for parameter in backbone.parameters() if parameter.grad is not None]
    assert len(gradients) == len(list(backbone.parameters())) - 2
    assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients)


def test_wrong_shapes_are_named() -> None:
    backbone = small_backbone(DENSE)
    with pytest.raises(BadEmbeddingsError, match=r"\(B, T, 48\), got \(1, 2, 47\)"):
        backbone(torch.zeros(1, 2, 47))
    with pytest.raises(BadEmbeddingsError, match="T at least 1"):
        backbone(torch.zeros(1, 0, 48))
    with pytest.raises(BadEmbeddingsError, match="one number per token"):
        backbone(torch.zeros(1, 2, 48), torch.zeros(1, 3))


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(BadConfigError, match="multiple of 3 groups, got 4"):
        HeadsConfig(heads=4, groups=3, head_dim=8)
    with pytest.raises(BadConfigError, match="at most the 4 experts"):
        ExpertsConfig(count=4, chosen=5, shared=1, inner=8)
    heads = HeadsConfig(heads=2, groups=1, head_dim=8)
    sizes = {
        "vocabulary": 5,
        "width": 16,
        "sliding_heads": heads,
        "global_heads": heads,
        "window": 4,
        "reach": 4,
    }
    with pytest.raises(BadConfigError, match="experts to be given"):
        BackboneConfig(attention=("global",), mlps=("sparse",), **sizes)  # type: ignore[arg-type]  # a mixed table
    with pytest.raises(BadConfigError, match="inner to be above 0"):
        BackboneConfig(attention=("global",), mlps=("dense",), **sizes)  # type: ignore[arg-type]  # a mixed table
    with pytest.raises(BadConfigError, match="one kind for each of 1 layers, got 2"):
        BackboneConfig(attention=("global",), mlps=("dense",) * 2, **sizes)  # type: ignore[arg-type]  # a mixed table


def test_scores_of_new_global_layers_vary_by_one() -> None:
    attentions = [
        module for module in Backbone(preset("nano").backbone).modules() if isinstance(module, Attention)
    ]
    products = {
        attention.window: attention.q_norm.weight * attention.k_norm.weight for attention in attentions
    }
    assert torch.allclose(products.pop(0), torch.tensor(8.0)) and products
    assert all(torch.all(product == 1) for product in products.values())
