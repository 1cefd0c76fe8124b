"""The presets: as large as they say, by the modules themselves and by a count of our own."""

from __future__ import annotations

import pytest
import torch

from microturn.interaction_model.native import BadConfigError
from microturn.interaction_model.native.config import ExpertsConfig
from microturn.interaction_model.native.cost import count_parameters, distinct_experts, turn_cost
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.presets import PRESETS, preset
from microturn.interaction_model.native.vocabulary import SIZE
from tests.interaction_model.native.inkling import inkling_config, modeling
from tests.interaction_model.native.small_networks import CONFIGS, Name, small_network_config

pytestmark = pytest.mark.unit


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_the_formula_counts_what_the_modules_hold(name: str) -> None:
    config = preset(name)
    assert count_parameters(config).total == count(Network(config, device="meta"))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_formula_counts_odd_sizes_too(name: Name) -> None:
    config = small_network_config(CONFIGS[name])
    assert count_parameters(config).total == count(Network(config, device="meta"))


def test_the_nano_is_small_and_knows_the_vocabulary() -> None:
    assert 3e6 < count_parameters(preset("nano")).total < 10e6
    assert preset("nano").backbone.vocabulary == SIZE


def test_the_experts_of_the_nano_cost_a_token_no_more_than_its_dense_layers() -> None:
    dense, sparse = count_parameters(preset("nano")), count_parameters(preset("nano-experts"))
    assert sparse.total > 1.8 * dense.total
    assert sparse.active < 1.02 * dense.active


def test_small_276b_a12b_has_276_billion_parameters_of_which_12_are_active() -> None:
    config = preset("small-276b-a12b")
    counted = count_parameters(config)
    assert round(counted.total / 1e9) == 276
    # Published counts of active parameters hold the whole embedding.
    assert round((counted.active + config.backbone.vocabulary * config.backbone.width) / 1e9) == 12
    assert config.backbone.attention.count("global") == 7


def test_small_276b_a12b_has_the_tensors_of_inklings_language_model() -> None:
    config = preset("small-276b-a12b")
    network = Network(config, device="meta")
    with torch.device("meta"):
        theirs = modeling.InklingForCausalLM(inkling_config(config.backbone))
    wanted = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    ours = {key: tensor.shape for key, tensor in network.state_dict().items()}
    assert {key: ours.get(key) for key in wanted} == wanted
    assert {key.split(".")[0] for key in ours.keys() - wanted.keys()} == {
        "audio_tower",
        "vision_tower",
        "clock",
    }


def test_an_unknown_preset_is_named_with_those_that_are_known() -> None:
    with pytest.raises(BadConfigError, match=r"nano, nano-experts, .*got 'huge'"):
        preset("huge")


def test_a_silent_micro_turn_reads_the_weights_once() -> None:
    config = preset("nano")
    cost = turn_cost(config, inputs=5, outputs=0, patches=0, context=0, weight_bytes=4)
    # All but the embedding of ids, of which a row is looked up, the last norm, and the ears, eyes and clock.
    senses = Network(config, device="meta")
    layers = sum(count(layer) for layer in senses.model.layers)
    assert cost.weight_bytes == 4 * (layers + count(senses.lm_head))
    assert (cost.positions, cost.steps, cost.cache_bytes) == (5, 1, 0)


def test_costs_grow_by_what_is_said_seen_and_remembered() -> None:
    config = preset("nano")

    def cost(outputs: int = 0, patches: int = 0, context: int = 1000) -> tuple[float, float, float]:
        given = turn_cost(config, inputs=5 + patches, outputs=outputs, patches=patches, context=context)
        return given.flops, given.weight_bytes, given.cache_bytes

    silent = cost()
    assert cost(outputs=3)[1] == 4 * silent[1]
    assert cost(patches=12)[1] == silent[1]
    assert cost(patches=12)[0] > 3 * silent[0]
    # Of six layers two see everything, with two groups of 64 keys and values of two bytes.
    assert cost(context=2000)[2] - silent[2] == 2 * 1000 * 2 * 2 * 64 * 2


def test_distinct_experts_of_even_choices() -> None:
    config = ExpertsConfig(count=256, chosen=6, shared=2, inner=8)
    assert distinct_experts(config, 1) == pytest.approx(6)
    # The expected numbers of a table of floors that was made by simulation.
    for tokens, expected in [(4, 23.2), (8, 44.2), (50, 177.8), (128, 243.7)]:
        assert distinct_experts(config, tokens) == pytest.approx(expected, abs=0.1)
