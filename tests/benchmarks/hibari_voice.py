"""A speaker of the training kit as a voice for the person's side of recordings: hibari's voice in another style.

The assistant speaks with the same voice in its own style. Speakers that are held out are never trained on. Knows
nothing of scripts, noise and files.
"""

from __future__ import annotations

import zlib

from kokoro_voice import Rendering, WordTiming

from microturn.interaction_model.cascade.voice import Voice
from microturn.interaction_model.cascade.voice_model import VoiceModel
from microturn.interaction_model.training.speakers import Engine, Speaker, Split
from microturn.protocols import OUTPUT_RATE_HZ, UserError

_EARLY_SAMPLES = OUTPUT_RATE_HZ * 30 // 1000
"""How much earlier words end in the sound than the voice's durations say; see `hibari_engine.EARLY_SAMPLES`."""


class HibariVoice:
    """Speaks English text as any held-out speaker of hibari; deterministic on one kind of machine."""

    def __init__(self) -> None:
        self._model = VoiceModel()

    def render(self, text: str, voice: str, speed: float = 1.0) -> Rendering:
        """Speak `text`.

        Args:
            text: words separated by spaces.
            voice: name of a held-out speaker, such as `hibari-000012`.
            speed: 1.0 is the speaker's own pace, which is part of who it is; no other is possible.

        Raises:
            UserError: there is no such speaker, it was trained on, or its pace is to be changed.
        """
        style = _held_out(voice).style
        if speed != 1.0:
            raise UserError(f"cannot change the pace of {voice!r}: leave `speed` out")
        said = Voice(self._model, style=style, seed=zlib.crc32(text.encode())).render(text)
        ends = [max(timing.end_sample - _EARLY_SAMPLES, 0) for timing in said.words]
        bounds = zip([0, *ends], [*ends[:-1], said.audio.size], strict=False)
        words = zip(text.split(), bounds, strict=True)
        return Rendering(said.audio, tuple(WordTiming(word, *bound) for word, bound in words))


def _held_out(voice: str) -> Speaker:
    try:
        speaker = Speaker.named(voice)
    except ValueError as error:
        raise UserError(f"cannot speak as {voice!r}: {error}") from None
    if speaker.engine is not Engine.HIBARI or speaker.split is not Split.HELD_OUT:
        raise UserError(
            f"cannot speak as {voice!r}: expected a speaker of hibari that is held out of training"
        )
    return speaker
