"""Native models from files."""

from __future__ import annotations

import pytest

from microturn.interaction_model.native import (
    BadConfigError,
    CheckpointMissingError,
    CorruptCheckpointError,
    ForeignCheckpointError,
    NoShippedWeightsError,
    loader,
)
from microturn.interaction_model.native.checkpoint import NETWORK_FILE, save
from microturn.interaction_model.native.flow_head import FlowHeadConfig
from microturn.interaction_model.native.loader import load_native, ready
from microturn.interaction_model.native.mouth import Mouth
from microturn.interaction_model.native.voice_file import MOUTH_FILE, save_mouth
from tests.interaction_model.native.small_models import (
    SMALL_WINDOW,
    assert_same,
    opened,
    run,
    small_model,
    small_mouth,
    small_network,
)

pytestmark = pytest.mark.unit

TURNS = range(5)


def test_a_saved_model_gives_the_same_bits_once_loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = small_model()
    folder = tmp_path_factory.mktemp("weights")
    save(small_network(), folder / NETWORK_FILE)
    save_mouth(small_mouth(), folder / MOUTH_FILE)
    loaded = load_native(folder, window=SMALL_WINDOW)
    assert loaded.fingerprint == model.fingerprint
    assert_same(run(loaded, opened(loaded), TURNS), run(model, opened(model), TURNS))
    assert loaded.decoder.cache.free_pages() != {}


def test_loading_says_what_is_missing_or_broken(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("weights")
    with pytest.raises(CheckpointMissingError):
        load_native(folder)
    save(small_network(), folder / NETWORK_FILE)
    save(small_network(), folder / MOUTH_FILE)
    with pytest.raises(ForeignCheckpointError, match="mouth"):
        load_native(folder)
    save_mouth(small_mouth(), folder / MOUTH_FILE)
    written = bytearray((folder / MOUTH_FILE).read_bytes())
    written[-3] ^= 1
    (folder / MOUTH_FILE).write_bytes(written)
    with pytest.raises(CorruptCheckpointError, match="SHA-256"):
        load_native(folder)


def test_without_shipped_weights_a_clear_error_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(loader, "SHIPPED", tmp_path_factory.mktemp("empty"))
    with pytest.raises(NoShippedWeightsError, match="load_native"):
        load_native()


def test_a_mouth_for_another_width_is_refused() -> None:
    with pytest.raises(BadConfigError, match="width 48"):
        ready(small_network(), Mouth(FlowHeadConfig(condition=32)))
