"""A native model to be measured: sessions with a past, and answers by script that cost as much as real ones.

Speed depends on sizes and on how much is emitted, and not on what was learned; so random weights will do, and a script
decides what is emitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from microturn.interaction_model.interface import SessionConfig
from microturn.interaction_model.native import checkpoint
from microturn.interaction_model.native.cache import SessionState
from microturn.interaction_model.native.decoder import Decoder
from microturn.interaction_model.native.decoding import Answer, Emitter, Question
from microturn.interaction_model.native.flow_head import FlowHeadConfig
from microturn.interaction_model.native.loader import load_native
from microturn.interaction_model.native.model import NativeModel
from microturn.interaction_model.native.mouth import Mouth
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.presets import preset
from microturn.interaction_model.native.session import NativeSession
from microturn.interaction_model.native.state_window import STEP_TOKENS, StateWindow
from microturn.interaction_model.native.vocabulary import Token, heard_token, said_token
from microturn.interaction_model.native.voice_file import MOUTH_FILE, save_mouth
from microturn.protocols import INPUT_SAMPLES, Frame, MicroTurnInput, Samples

SEED = 1
TOKENS_A_MINUTE = 1500
"""Of silence: 25 positions a second."""
FIRST_TURN = 3000
"""Number of the micro-turn that is measured, ten minutes in."""
SAID = tuple(map(said_token, ("seven", "degrees", "sunny", "tomorrow")))
HEARD = tuple(map(heard_token, ("what", "is", "the", "weather", "in", "london", "tomorrow", "please")))


class ScriptedEmitter(Emitter):
    """Computes and draws every token as the real one does, and then takes what a script says."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder)
        self.script: Sequence[int] = ()
        """Tokens of the next micro-turn of all sessions."""
        self._asked = 0

    def emit(self, questions: Sequence[Question]) -> list[Answer]:
        """Emit the script."""
        self._asked = 0
        return super().emit(questions)

    def _choose(self, questions: Sequence[Question], hidden: Tensor) -> list[int]:
        super()._choose(questions, hidden)
        at, self._asked = self._asked, self._asked + 1
        return [self.script[at] if at < len(self.script) else int(Token.END)] * len(questions)


@dataclass(frozen=True)
class Stage:
    """A model that says what it is told."""

    model: NativeModel
    emitter: ScriptedEmitter

    @classmethod
    def of(cls, folder: Path, sessions: int) -> Stage:
        """Load the model of a folder for so many sessions, each with the usual window."""
        model = load_native(folder, window=StateWindow(sessions=sessions))
        # The model has no seam for another emitter, as nobody but tests and benchmarks needs one.
        model._emitter = emitter = ScriptedEmitter(model.decoder)
        scribble(model.decoder)
        return cls(model, emitter)

    def opened(self, name: str, context: int) -> NativeSession:
        """A session that holds so many tokens."""
        session = self.model.open(SessionConfig(name, seed=SEED))
        pretend_past(self.model.decoder, session.state, context)
        return session


def scribble(decoder: Decoder) -> None:
    """Fill all pages with random numbers, so that a pretended past is none of zeros."""
    torch.manual_seed(SEED)
    for keys, values in decoder.cache.layers:
        keys.normal_()
        values.normal_(std=0.1)


def pretend_past(decoder: Decoder, state: SessionState, context: int) -> None:
    """Let a session hold so many tokens that were never computed: its pages keep what lies on them."""
    while state.length < context:
        decoder.cache.append([state], [min(STEP_TOKENS, context - state.length)])
        decoder.cache.evict([state])


class Returning:
    """Takes a session back to where it was, one token further each time.

    The kernels keep masks of places that they have seen. A session that goes on never comes to the same place again,
    so one that is measured must not either.
    """

    def __init__(self, decoder: Decoder, state: SessionState) -> None:
        self._decoder, self._state = decoder, state
        self._here = state.snapshot()

    def __call__(self) -> None:
        self._state.rewind(self._here)
        move_on(self._decoder, self._state)
        self._here = self._state.snapshot()


def move_on(decoder: Decoder, state: SessionState) -> None:
    """Let a session grow by one token that was never computed."""
    pretend_past(decoder, state, state.length + 1)


def random_embeddings(tokens: int, like: Tensor) -> Tensor:
    """`(tokens, C)` of the dtype and width of `like (1, C)`, normed as embeddings are."""
    drawn = torch.randn(tokens, like.shape[1], generator=torch.Generator().manual_seed(SEED))
    return (drawn * drawn.square().mean(-1, keepdim=True).rsqrt()).to(like.dtype)


def nano() -> Network:
    """The nano with random weights, those of the short convolutions and of the bias by distance not small."""
    torch.manual_seed(SEED)
    network = Network(preset("nano"))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "sconv" in name or "rel_logits" in name:
                parameter.normal_(std=0.2)
    return network.requires_grad_(False)


@contextmanager
def weights(folder: Path | None) -> Iterator[Path]:
    """A folder with a network and a mouth: the given one, or one with random weights for as long as the block takes."""
    if folder is not None:
        yield folder
        return
    with TemporaryDirectory() as made:
        network = nano()
        checkpoint.save(network, Path(made) / checkpoint.NETWORK_FILE)
        save_mouth(Mouth(FlowHeadConfig(condition=network.config.backbone.width)), Path(made) / MOUTH_FILE)
        yield Path(made)


def sound(turns: int = 1) -> Samples:
    """Quiet noise."""
    drawn = np.random.default_rng(SEED).standard_normal(turns * INPUT_SAMPLES)
    return (drawn * 0.02).astype(np.float32)


def pictures(width: int, height: int) -> tuple[Frame, Frame]:
    """Two pictures of noise, 100 ms apart."""
    drawn = np.random.default_rng(SEED).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    return Frame(0, drawn[0]), Frame(100, drawn[1])


def given(turn: int, frames: tuple[Frame, ...] = (), text: tuple[str, ...] = ()) -> MicroTurnInput:
    """What one micro-turn brings."""
    return MicroTurnInput(turn, sound(), frames, text)
