"""Makes a native model from files, ready to hold the beat from its first step on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from microturn.interaction_model.interface import SessionConfig
from microturn.interaction_model.native._errors import CheckpointMissingError, NoShippedWeightsError
from microturn.interaction_model.native.cache import SessionState
from microturn.interaction_model.native.checkpoint import NETWORK_FILE, load
from microturn.interaction_model.native.model import NativeModel
from microturn.interaction_model.native.mouth import Mouth, MouthState
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.state_window import StateWindow
from microturn.interaction_model.native.vocabulary import Token
from microturn.interaction_model.native.vocoder_frames import TURN_FRAMES
from microturn.interaction_model.native.voice_file import MOUTH_FILE, expect_fits, load_mouth
from microturn.kernels.ops.linear import prepare_linears
from microturn.protocols import INPUT_SAMPLES, Frame, MicroTurnInput

SHIPPED = Path(__file__).parent / "weights"
"""Where the package carries its own weights, in a version that does."""


def load_native(
    path: Path | None = None, *, window: StateWindow | None = None, temperature: float = 0.0
) -> NativeModel:
    """Load the native model, in float32. Blocks for about two seconds.

    A file in bfloat16 is computed in float32 too, as training did: the nano is as quick in either on a CPU.

    Args:
        path: a folder with `network.safetensors` and `mouth.safetensors`; the package's own if None.
        window: how much is kept, and for how many sessions.
        temperature: of tokens; 0 takes the likeliest.

    Raises:
        NoShippedWeightsError: `path` is None, and this version carries no weights.
        CheckpointMissingError, CorruptCheckpointError, ForeignCheckpointError, FutureCheckpointError,
        VocabularyMismatchError: as `checkpoint.load`.
        BadConfigError: the mouth was made for a network of another width.
    """
    require_weights(path)
    folder = path if path is not None else SHIPPED
    network, mouth = load(folder / NETWORK_FILE).float(), load_mouth(folder / MOUTH_FILE)
    return ready(network, mouth, window=window, temperature=temperature)


def require_weights(path: Path | None = None) -> None:
    """Find out at once whether there are files to load; what is in them is not looked at.

    Args:
        path: as for `load_native`.

    Raises:
        NoShippedWeightsError: `path` is None, and this version carries no weights.
        CheckpointMissingError: a file is missing in `path`.
    """
    missing = [name for name in (NETWORK_FILE, MOUTH_FILE) if not ((path or SHIPPED) / name).is_file()]
    if not missing:
        return
    if path is None:
        raise NoShippedWeightsError(SHIPPED)
    raise CheckpointMissingError(path / missing[0])


def ready(
    network: Network, mouth: Mouth, *, window: StateWindow | None = None, temperature: float = 0.0
) -> NativeModel:
    """Make a model whose steps do not wait: weights are laid out for speed, and every kind of work is done once.

    Raises:
        BadConfigError: the mouth was made for a network of another width.
    """
    expect_fits(mouth, network.config)
    for module in (network, mouth):
        module.requires_grad_(False)
    model = NativeModel(network, mouth, window=window, temperature=temperature)
    if network.lm_head.weight.device.type == "cpu":
        model.decoder.prepare()
        prepare_linears(_matrices(network, mouth), (1, TURN_FRAMES))
        _rehearse(model)
    return model


def _matrices(network: Network, mouth: Mouth) -> list[Tensor]:
    """The weights of linears outside the backbone."""
    named = (*network.vision_tower.named_parameters(), *mouth.named_parameters())
    return [
        tensor
        for name, tensor in named
        if name.endswith(".weight")
        and tensor.dim() == 2
        and ".symbols." not in name
        and ".places." not in name
    ]


def _rehearse(model: NativeModel) -> None:
    """Let ever more sessions hear, see, read, write and speak, so that no later step is the first of its size."""
    sessions = [model.open(SessionConfig(f"rehearsal-{n}")) for n in range(model.window.sessions)]
    picture = np.zeros((120, 160, 3), np.uint8)
    pair = (Frame(0, picture), Frame(100, picture))
    sound = np.zeros(INPUT_SAMPLES, np.float32)
    turn = 0
    for count in range(1, len(sessions) + 1):
        for frames, text in (((), ()), (pair, ("hello there",))):
            given = MicroTurnInput(turn, sound, frames, text)
            model.step([(session, given) for session in sessions[:count]])
            turn += 1
        _emit_and_speak(model, [session.state for session in sessions[:count]])
    model.close()


def _emit_and_speak(model: NativeModel, states: list[SessionState]) -> None:
    """What a step does for sessions that all write a token and all say a word."""
    embedded = model.decoder.embed(torch.tensor([int(Token.CANCEL)] * len(states)))
    hidden = torch.cat(model.decoder.advance(states, list(embedded.split(1))))
    model.decoder.logits(hidden)
    words = [("hello",)] * len(states)
    model.mouth.speak(hidden.float(), [MouthState(0)] * len(states), words)
