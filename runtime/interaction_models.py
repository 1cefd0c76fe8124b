"""The interaction models that a conversation can be held with, by name: what each needs, and how it is loaded.

The one place that knows all of them. Nothing heavy is imported before a model is chosen.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Final

from microturn.interaction_model import InteractionModel
from microturn.interaction_model.cascade import load_cascade
from microturn.protocols import UserError
from microturn.weights import WeightMissingError, locate

DEFAULT_MODEL: Final = "cascade"
NEEDED_WEIGHTS: Final = (
    "silero-vad",
    "smart-turn",
    "moonshine-encoder",
    "moonshine-decoder",
    "moonshine-tokenizer",
    "minilm",
    "minilm-tokenizer",
)
"""What the cascade loads."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model that was chosen, and not loaded."""

    name: str
    require: Callable[[], None]
    """Finds out at once whether all that it needs is here; raises a `MicroturnError` that says what gets it."""
    load: Callable[[], InteractionModel]
    """Loads it, ready to hold the beat. Blocks for some seconds."""


def choose_interaction_model(name: str = DEFAULT_MODEL, weights: Path | None = None) -> ModelChoice:
    """Choose a model by its name: `cascade` or `native`.

    Args:
        name: one of `MODELS`.
        weights: the folder with its weights; None for those that belong to this version.

    Raises:
        UserError: there is no such model, or its weights cannot be chosen.
    """
    if name not in MODELS:
        raise UserError(
            f"there is no interaction model {name!r}: choose one of {', '.join(MODELS)}; a model that reasons is "
            "named together with its address, or by MICROTURN_MODEL"
        )
    return MODELS[name](weights)


def load_speech() -> InteractionModel:
    """Load the cascade from the shipped weights; about 3 s and 0.5 GB of memory. Blocks.

    Raises:
        WeightError: weights are missing or not the pinned ones; the text names them all, and what gets them.
        SpeechExtraMissingError: a package of the extra `speech` is not installed.
    """
    require_speech_weights()
    return load_cascade()


def require_speech_weights() -> None:
    """Find out at once whether all that hears and speaks is here.

    Raises:
        WeightError: weights are missing or not the pinned ones; the text names them all, and what gets them.
    """
    missing = [name for name in NEEDED_WEIGHTS if not _is_here(name)]
    if missing:
        raise WeightMissingError(
            f"cannot hear and speak: {len(missing)} of {len(NEEDED_WEIGHTS)} weight files are not on this machine "
            f"({', '.join(missing)}); get them with `microturn weights fetch speech`"
        )


def load_native_model(weights: Path | None = None) -> InteractionModel:
    """Load the native model for one conversation. Blocks.

    Args:
        weights: a folder with `network.safetensors` and `mouth.safetensors`; the package's own if None.

    Raises:
        NativeExtraMissingError: a package of the extra `native` is not installed.
        MicroturnError: weights are missing, broken or of another version; the text says what to do.
    """
    window = importlib.import_module("microturn.interaction_model.native.state_window").StateWindow
    model: InteractionModel = _native_loader().load_native(weights, window=window(sessions=1))
    return model


def _cascade(weights: Path | None) -> ModelChoice:
    if weights is not None:
        raise UserError(
            f"cannot load the cascade from {str(weights)!r}: its weights are pinned and lie in the cache; a folder of "
            "weights is for `--model native`"
        )
    return ModelChoice("cascade", require_speech_weights, load_speech)


def _native(weights: Path | None) -> ModelChoice:
    return ModelChoice(
        "native",
        lambda: _native_loader().require_weights(weights),
        functools.partial(load_native_model, weights),
    )


def _native_loader() -> ModuleType:
    """Imported only here, because that takes seconds, and PyTorch is not always installed."""
    return importlib.import_module("microturn.interaction_model.native.loader")


def _is_here(name: str) -> bool:
    try:
        locate(name)
    except WeightMissingError:
        return False
    return True


MODELS: Final[Mapping[str, Callable[[Path | None], ModelChoice]]] = MappingProxyType(
    {"cascade": _cascade, "native": _native}
)
"""What makes the choice of each model, given a folder of weights."""
