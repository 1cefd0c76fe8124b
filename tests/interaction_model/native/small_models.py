"""Small native models with random weights, sound to feed them, and scripts for what they emit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from microturn.interaction_model import ModelSession
from microturn.interaction_model.interface import SessionConfig
from microturn.interaction_model.native.config import EarsConfig, EyesConfig, NetworkConfig
from microturn.interaction_model.native.decoding import Answer, Emitter, Question
from microturn.interaction_model.native.flow_head import FlowHeadConfig
from microturn.interaction_model.native.model import NativeModel
from microturn.interaction_model.native.mouth import Mouth
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.session import NativeSession
from microturn.interaction_model.native.state_window import StateWindow
from microturn.interaction_model.native.vocabulary import SIZE, Token, heard_token, said_token
from microturn.protocols import INPUT_SAMPLES, Frame, MicroTurnInput, MicroTurnOutput, Samples
from tests.interaction_model.native.inkling import draw
from tests.interaction_model.native.small_networks import CONFIGS, Name

SMALL_WINDOW = StateWindow(sessions=6, tokens=96, sinks=5, rewind_tokens=64, page_tokens=16)


def small_network(name: Name = "dense", dtype: torch.dtype = torch.float32) -> Network:
    """A network with the whole vocabulary and random weights."""
    backbone = replace(CONFIGS[name], vocabulary=SIZE)
    eyes = EyesConfig(width=48, patch=40, layers=2, channels=(10,))
    network = Network(NetworkConfig(backbone=backbone, ears=EarsConfig(width=48), eyes=eyes)).to(dtype)
    draw(network, 3)
    return network


def small_mouth() -> Mouth:
    """A mouth that has learned nothing, whose every weight matters."""
    torch.manual_seed(5)
    mouth = Mouth(FlowHeadConfig(condition=48, width=32, inner=48, blocks=2, symbol=8, time=16))
    with torch.no_grad():
        for parameter in mouth.parameters():
            parameter.normal_(0, 0.15)
    return mouth


def small_model(
    name: Name = "dense",
    dtype: torch.dtype = torch.float32,
    *,
    temperature: float = 0.0,
    window: StateWindow = SMALL_WINDOW,
    threads: int = 1,
) -> NativeModel:
    """Both together; what they emit is noise, but it is always the same noise."""
    return NativeModel(
        small_network(name, dtype), small_mouth(), window=window, temperature=temperature, threads=threads
    )


class ScriptedEmitter(Emitter):
    """Draws what a script says at each query; what becomes of it is decided as ever."""

    def __init__(self, model: NativeModel, script: Mapping[int, Sequence[int]]) -> None:
        super().__init__(model.decoder)
        self._script = script
        self._asked = 0
        self._left: dict[int, list[int]] = {}

    def emit(self, questions: Sequence[Question]) -> list[Answer]:
        tokens = self._script.get(self._asked, ())
        self._left = {id(question): list(tokens) for question in questions}
        self._asked += 1
        return super().emit(questions)

    def _choose(self, questions: Sequence[Question], hidden: Tensor) -> list[int]:
        left = [self._left[id(question)] for question in questions]
        return [own.pop(0) if own else int(Token.END) for own in left]


def opened(model: NativeModel, name: str = "one", seed: int = 7) -> NativeSession:
    """A new session."""
    return model.open(SessionConfig(name, seed=seed))


def sound(seed: int, turns: int = 1) -> Samples:
    """Noise of changing loudness."""
    drawn = np.random.default_rng(seed).standard_normal(turns * INPUT_SAMPLES)
    return (drawn * 0.02 * (1 + seed % 7)).astype(np.float32)


def picture(seed: int, height: int = 40, width: int = 80) -> Frame:
    """A frame of noise, at 100 ms times the seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame(100 * seed, pixels)


def heard(index: int, seed: int = 0) -> MicroTurnInput:
    """One micro-turn; every third brings pictures, every seventh something to read."""
    frames = (picture(2 * index), picture(2 * index + 1)) if index % 3 == 1 else ()
    text = ("what time is it",) if index % 7 == 2 else ()
    return MicroTurnInput(index, sound(1000 * seed + index), frames, text)


def run(
    model: NativeModel, session: ModelSession, turns: Sequence[int], seed: int = 0
) -> list[MicroTurnOutput]:
    """Step one session alone."""
    return [model.step([(session, heard(index, seed))])[0] for index in turns]


def assert_same(left: Sequence[MicroTurnOutput], right: Sequence[MicroTurnOutput]) -> None:
    """All of both is equal, the sound to the bit."""
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.audio.dtype == other.audio.dtype
        assert one.audio.tobytes() == other.audio.tobytes(), one.index
        empty = np.zeros(0, np.float32)
        assert repr(replace(one, audio=empty)) == repr(replace(other, audio=empty)), one.index


def hidden_now(model: NativeModel, session: NativeSession) -> Tensor:
    """What the network thinks at a probe token behind the session; the session stays as it was."""
    twin = session.state.fork()
    probe = model.decoder.embed(torch.tensor([5]))
    hidden = model.decoder.advance([twin], [probe])[0]
    twin.close()
    return hidden


def scripted(
    script: Mapping[int, Sequence[int]], inputs: Mapping[int, MicroTurnInput], turns: int
) -> list[MicroTurnOutput]:
    """What a model gives out that emits a script; silence where no input is given."""
    model = small_model()
    model._emitter = ScriptedEmitter(model, script)
    session = opened(model)
    quiet = np.zeros(INPUT_SAMPLES, np.float32)
    return [
        model.step([(session, inputs.get(turn, MicroTurnInput(turn, quiet)))])[0] for turn in range(turns)
    ]


def say(*words: str) -> list[int]:
    """Tokens of words that the assistant says."""
    return [said_token(word) for word in words]


def hear(*words: str) -> list[int]:
    """Tokens of words that the user said."""
    return [heard_token(word) for word in words]
