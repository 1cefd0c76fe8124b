"""The language model in the form that `transformers` 5.23 reads and writes as `InklingForCausalLM`.

Names of tensors are the same; here are the names of sizes, and the folder with `config.json` and `model.safetensors`.
Published checkpoints have other names still: `transformers` translates those, and what it saves then is read here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from microturn.interaction_model.native._errors import (
    BadConfigError,
    CheckpointMissingError,
    ForeignCheckpointError,
)
from microturn.interaction_model.native._safetensors import read_file, save_file
from microturn.interaction_model.native.config import (
    BackboneConfig,
    ExpertsConfig,
    HeadsConfig,
    LogScaling,
)
from microturn.interaction_model.native.network import Network

MODEL_TYPE = "inkling_text"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_LANGUAGE = ("model.", "lm_head.")


def language_weights(network: Network) -> dict[str, Tensor]:
    """The tensors of the language model, by Inkling's names; they share memory with the network."""
    return {name: tensor for name, tensor in network.state_dict().items() if name.startswith(_LANGUAGE)}


def config_fields(config: BackboneConfig) -> dict[str, Any]:
    """The sizes as fields of `InklingTextConfig`."""
    fields: dict[str, Any] = {
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "layer_types": ["hybrid_sliding" if kind == "sliding" else "hybrid" for kind in config.attention],
        "mlp_layer_types": list(config.mlps),
        "sliding_window_size": config.window,
        "rel_extent": config.reach,
        "d_rel": config.profile_rank,
        "conv_kernel_size": config.taps,
        "intermediate_size": max(config.inner, 1),
        "logits_mup_width_multiplier": config.logits_divisor,
        "rms_norm_eps": config.eps,
        "bos_token_id": None,
        "eos_token_id": None,
        **_heads_fields("swa_", config.sliding_heads),
        **_heads_fields("", config.global_heads),
    }
    if config.experts is not None:
        fields |= _experts_fields(config.experts)
    if config.log_scaling is not None:
        fields |= {
            "log_scaling_n_floor": config.log_scaling.floor,
            "log_scaling_alpha": config.log_scaling.alpha,
        }
    return fields


def config_from_fields(fields: Mapping[str, Any]) -> BackboneConfig:
    """The sizes that `InklingTextConfig` writes.

    Raises:
        BadConfigError: a size is missing or does not fit, or the model uses an option that is not served here.
    """
    _expect_served(fields)
    try:
        floor = fields.get("log_scaling_n_floor")
        return BackboneConfig(
            vocabulary=fields["vocab_size"],
            width=fields["hidden_size"],
            attention=tuple(
                "sliding" if kind == "hybrid_sliding" else "global" for kind in fields["layer_types"]
            ),
            mlps=tuple(fields["mlp_layer_types"]),
            sliding_heads=_heads_from("swa_", fields),
            global_heads=_heads_from("", fields),
            window=fields["sliding_window_size"],
            reach=fields["rel_extent"],
            profile_rank=fields["d_rel"],
            taps=fields["conv_kernel_size"],
            inner=fields["intermediate_size"] if "dense" in fields["mlp_layer_types"] else 0,
            experts=_experts_from(fields) if "sparse" in fields["mlp_layer_types"] else None,
            logits_divisor=fields["logits_mup_width_multiplier"],
            eps=fields["rms_norm_eps"],
            log_scaling=None if floor is None else LogScaling(floor=floor, alpha=fields["log_scaling_alpha"]),
        )
    except KeyError as error:
        raise BadConfigError("InklingTextConfig", str(error.args[0]), expected="given", got=None) from error


def export_language_model(network: Network, folder: Path) -> None:
    """Write a folder that `InklingForCausalLM.from_pretrained` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in language_weights(network).items()}
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    dtype = str(network.lm_head.weight.dtype).removeprefix("torch.")
    fields = config_fields(network.config.backbone) | {
        "architectures": ["InklingForCausalLM"],
        "dtype": dtype,
    }
    (folder / CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def read_config(folder: Path) -> BackboneConfig:
    """The sizes of a folder that `InklingForCausalLM.save_pretrained` wrote.

    Raises:
        CheckpointMissingError: there is no `config.json`.
        ForeignCheckpointError: it is of another kind of model.
        BadConfigError: as `config_from_fields`.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointMissingError(path)
    fields = json.loads(path.read_text(encoding="utf-8"))
    if fields.get("model_type") != MODEL_TYPE:
        got = f"{fields.get('model_type')!r}"
        raise ForeignCheckpointError(path, expected=f"a model of type {MODEL_TYPE!r}", got=got)
    return config_from_fields(fields)


def import_language_model(network: Network, folder: Path) -> None:
    """Take the language model's weights from a folder that `InklingForCausalLM.save_pretrained` wrote in one file.

    The rest of the network stays as it is.

    Raises:
        CheckpointMissingError, CorruptCheckpointError: the file is not there or cannot be read.
        ForeignCheckpointError: its tensors are not those of this network.
    """
    path = folder / WEIGHTS
    _, given = read_file(path)
    wanted = {name: tuple(tensor.shape) for name, tensor in language_weights(network).items()}
    found = {name: tuple(tensor.shape) for name, tensor in given.items()}
    different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if different:
        name = different[0]
        expected = f"{len(wanted)} tensors, {name!r} of shape {wanted.get(name)!r}"
        got = f"{len(different)} that differ, {name!r} of shape {found.get(name)!r}"
        raise ForeignCheckpointError(path, expected=expected, got=got)
    network.load_state_dict(given, strict=False)


def _expect_served(fields: Mapping[str, Any]) -> None:
    vocabulary = fields.get("vocab_size")
    expectations = {
        "unpadded_vocab_size": (None, vocabulary),
        "shared_expert_sink": (True, None),
        "hidden_act": ("silu", None),
    }
    for field, served in expectations.items():
        if fields.get(field) not in served:
            expected = f"one of {served!r}, as others are not served here"
            raise BadConfigError("InklingTextConfig", field, expected=expected, got=fields.get(field))


def _heads_fields(prefix: str, heads: HeadsConfig) -> dict[str, int]:
    return {
        f"{prefix}num_attention_heads": heads.heads,
        f"{prefix}num_key_value_heads": heads.groups,
        f"{prefix}head_dim": heads.head_dim,
    }


def _heads_from(prefix: str, fields: Mapping[str, Any]) -> HeadsConfig:
    return HeadsConfig(
        heads=fields[f"{prefix}num_attention_heads"],
        groups=fields[f"{prefix}num_key_value_heads"],
        head_dim=fields[f"{prefix}head_dim"],
    )


def _experts_fields(experts: ExpertsConfig) -> dict[str, Any]:
    return {
        "n_routed_experts": experts.count,
        "num_experts_per_tok": experts.chosen,
        "n_shared_experts": experts.shared,
        "moe_intermediate_size": experts.inner,
        "route_scale": experts.scale,
    }


def _experts_from(fields: Mapping[str, Any]) -> ExpertsConfig:
    return ExpertsConfig(
        count=fields["n_routed_experts"],
        chosen=fields["num_experts_per_tok"],
        shared=fields["n_shared_experts"],
        inner=fields["moe_intermediate_size"],
        scale=fields["route_scale"],
    )
