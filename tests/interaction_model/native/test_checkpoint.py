"""Checkpoints: the same network comes back, both ways with transformers, and what does not fit is named."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from microturn.interaction_model.native import (
    BadConfigError,
    CheckpointMissingError,
    CorruptCheckpointError,
    ForeignCheckpointError,
    FutureCheckpointError,
    VocabularyMismatchError,
)
from microturn.interaction_model.native._safetensors import save_file
from microturn.interaction_model.native.checkpoint import load, read_info, save
from microturn.interaction_model.native.inkling import (
    config_fields,
    config_from_fields,
    export_language_model,
    import_language_model,
    read_config,
)
from microturn.interaction_model.native.network import Network, to_bfloat16
from microturn.interaction_model.native.vocabulary import FINGERPRINT
from microturn.kernels.fingerprint import numerics_fingerprint
from tests.interaction_model.native.inkling import draw, inkling_language_model, modeling
from tests.interaction_model.native.small_networks import (
    CONFIGS,
    DENSE,
    Name,
    random_embeddings,
    small_network_config,
)

pytestmark = pytest.mark.unit


def network(name: Name = "dense", seed: int = 1) -> Network:
    made = Network(small_network_config(CONFIGS[name]))
    draw(made, seed)
    return made


def rewrite_metadata(path: Path, **changes: str | None) -> None:
    """Change the header of a safetensors file and leave its tensors alone; None takes a field out."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    metadata = {**header["__metadata__"], **changes}
    header["__metadata__"] = {field: value for field, value in metadata.items() if value is not None}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save(network(), path)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_network_comes_back(tmp_path: Path, name: Name, dtype: torch.dtype) -> None:
    made = network(name) if dtype == torch.float32 else to_bfloat16(network(name))
    path = tmp_path / "folder" / "model.safetensors"
    save(made, path, notes={"step": "12"})
    loaded = load(path)
    assert loaded.config == made.config
    before, after = made.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(
        torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before
    )
    assert loaded.lm_head.weight.dtype == dtype
    embeddings = random_embeddings(1, 20, 48, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(loaded.logits(loaded.model(embeddings)), made.logits(made.model(embeddings)))
    assert [path.name for path in path.parent.iterdir()] == ["model.safetensors"]


def test_a_loaded_network_hears_sees_and_can_be_trained(saved: Path) -> None:
    loaded = load(saved)
    patches = torch.rand(3, 2, 4, 4, 3)
    levels = torch.randint(0, 16, (4, 80), dtype=torch.uint8)
    turn = torch.cat([loaded.audio_tower(levels), loaded.vision_tower(patches)])
    turn = torch.cat(
        [turn, loaded.model.embed_tokens(torch.tensor([2])) + loaded.clock(torch.tensor([[7, 2, 1]]))]
    )
    loaded.logits(loaded.model(turn[None])).square().sum().backward()
    without = [name for name, parameter in loaded.named_parameters() if parameter.grad is None]
    assert without == []


def test_it_says_what_it_is_without_loading_weights(saved: Path) -> None:
    info = read_info(saved)
    assert info.config == small_network_config(DENSE)
    assert info.vocabulary_sha256 == FINGERPRINT
    assert info.numerics == numerics_fingerprint()


def test_a_failed_save_leaves_the_older_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def fail(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("microturn.interaction_model.native._safetensors.save_file", fail)
    with pytest.raises(OSError, match="no space"):
        save(network(seed=2), saved)
    assert saved.read_bytes() == before
    assert len(list(saved.parent.iterdir())) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissingError, match="no file there"):
        load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("length", [0, 5, 100, -1, -1000])
def test_a_file_that_was_cut_short_is_refused(saved: Path, length: int) -> None:
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(CorruptCheckpointError, match="whole safetensors file"):
        load(saved)


def test_one_changed_bit_in_the_weights_is_found(saved: Path) -> None:
    raw = bytearray(saved.read_bytes())
    raw[-5] ^= 1
    saved.write_bytes(raw)
    with pytest.raises(CorruptCheckpointError, match="recorded SHA-256"):
        load(saved)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path, {"format": "pt"})
    with pytest.raises(ForeignCheckpointError, match="'microturn-native' in its metadata, got 'pt'"):
        load(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ForeignCheckpointError, match="got None"):
        read_info(path)


def test_a_file_from_the_future_is_refused(saved: Path) -> None:
    rewrite_metadata(saved, format_version="2")
    with pytest.raises(FutureCheckpointError, match="expected format 1 or older, got 2; install a newer"):
        load(saved)


def test_weights_of_another_vocabulary_are_refused(saved: Path) -> None:
    with pytest.raises(VocabularyMismatchError, match=r"expected the vocabulary '0{12}'"):
        load(saved, vocabulary="0" * 64)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format_version": "one"}, "a number as format_version"),
        ({"config": None}, "'config'"),
        ({"config": "{"}, "metadata of format 1"),
        ({"config": "{}"}, "backbone"),
        ({"notes": None}, "'notes'"),
    ],
)
def test_broken_metadata_are_refused(saved: Path, changes: dict[str, str | None], message: str) -> None:
    rewrite_metadata(saved, **changes)
    with pytest.raises(CorruptCheckpointError, match=message):
        load(saved)


def changed_config(saved: Path, **backbone: Any) -> str:
    config = json.loads(json.dumps(config_of(saved)))
    config["backbone"] |= backbone
    return json.dumps(config)


def config_of(saved: Path) -> Any:
    raw = saved.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["config"])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"gates": 3}, "fields that this version does not have"),
        ({"window": -1}, "window"),
        ({"width": "wide"}, "backbone.width"),
    ],
)
def test_sizes_that_no_network_has_are_refused(saved: Path, changes: dict[str, Any], message: str) -> None:
    rewrite_metadata(saved, config=changed_config(saved, **changes))
    with pytest.raises(CorruptCheckpointError, match=message):
        load(saved)


def test_a_network_whose_parts_have_other_sizes_now_is_refused(saved: Path) -> None:
    rewrite_metadata(saved, config=changed_config(saved, inner=73))
    expected = r"this version's network, as 'model.layers.0.mlp.down_proj.weight' of shape \(48, 73\)"
    with pytest.raises(ForeignCheckpointError, match=expected + ".* or train one"):
        load(saved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_loads_our_language_model(tmp_path: Path, name: Name, dtype: torch.dtype) -> None:
    made = network(name) if dtype == torch.float32 else to_bfloat16(network(name))
    export_language_model(made, tmp_path)
    theirs, report = modeling.InklingForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager", experts_implementation="eager", output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = torch.randint(0, 41, (1, 30), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours = made.logits(made.model(made.model.embed_tokens(ids)))
        wanted = theirs(ids, use_cache=False).logits
    tolerance = 1e-4 if dtype == torch.float32 else 0.2
    torch.testing.assert_close(ours, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", CONFIGS)
def test_we_load_a_language_model_of_transformers(tmp_path: Path, name: Name) -> None:
    theirs = inkling_language_model(CONFIGS[name], torch.float32, seed=6)
    theirs.save_pretrained(tmp_path)
    assert read_config(tmp_path) == CONFIGS[name]
    ours = network(name)
    tower = {key: value.clone() for key, value in ours.audio_tower.state_dict().items()}
    import_language_model(ours, tmp_path)
    ids = torch.randint(0, 41, (1, 30), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = ours.logits(ours.model(ours.model.embed_tokens(ids)))
        torch.testing.assert_close(logits, theirs(ids, use_cache=False).logits, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(tower[key], value) for key, value in ours.audio_tower.state_dict().items())


def test_a_language_model_of_other_sizes_is_refused(tmp_path: Path) -> None:
    inkling_language_model(CONFIGS["sparse"], torch.float32).save_pretrained(tmp_path)
    with pytest.raises(ForeignCheckpointError, match=r"tensors, .* that differ"):
        import_language_model(network("dense"), tmp_path)
    with pytest.raises(CheckpointMissingError):
        read_config(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ForeignCheckpointError, match="'inkling_text', got 'llama'"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"unpadded_vocab_size": 40}, "unpadded_vocab_size"),
        ({"shared_expert_sink": False}, "shared_expert_sink"),
        ({"hidden_act": "gelu"}, "hidden_act"),
    ],
)
def test_options_that_are_not_served_are_named(change: dict[str, Any], message: str) -> None:
    fields = {**config_fields(DENSE), "shared_expert_sink": True, "hidden_act": "silu"}
    assert config_from_fields(fields) == DENSE
    with pytest.raises(BadConfigError, match=message):
        config_from_fields(fields | change)
    del fields["d_rel"]
    with pytest.raises(BadConfigError, match="d_rel to be given"):
        config_from_fields(fields)
