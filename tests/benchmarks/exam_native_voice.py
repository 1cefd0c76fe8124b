"""Voices that the native model never hears in training, for the scenes of its exam: English voices of Kokoro-82M.

They take the place of the speakers that a scene's plan draws: a speaker's number decides whose voice it is and how quick.
`af_heart` is left out, as the voice that training hears most was made after it. The pronunciations are of the dictionary
that this voice has too, so what is new is the sound of the voices, their accent and melody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from kokoro_voice import SAMPLE_RATE_HZ, KokoroVoice, Rendering, Samples
from spoken_line import PersonVoice

from microturn.interaction_model.training.audio_rate import at_input_rate, rate_ratio
from microturn.interaction_model.training.exam_scenes import RenderedScene, SceneRenderer
from microturn.interaction_model.training.scene import Scene, Talk
from microturn.interaction_model.training.scene_plan import ScenePlan
from microturn.interaction_model.training.speakers import Speaker
from microturn.interaction_model.training.utterances import (
    LEVEL_FRAME,
    SpokenWord,
    Utterance,
    levelled,
    sounding_frames,
    tightened,
)

NAME = "kokoro"
"""What stands for who makes the voices in figures."""
VOICES = (
    *(
        "af_alloy",
        "af_aoede",
        "af_bella",
        "af_jessica",
        "af_kore",
        "af_nicole",
        "af_nova",
        "af_river",
        "af_sarah",
    ),
    *("af_sky", "am_adam", "am_echo", "am_eric", "am_fenrir", "am_liam", "am_michael", "am_onyx", "am_puck"),
    *(
        "am_santa",
        "bf_alice",
        "bf_emma",
        "bf_isabella",
        "bf_lily",
        "bm_daniel",
        "bm_fable",
        "bm_george",
        "bm_lewis",
    ),
)
"""American and British women and men."""
SPEEDS = (0.85, 0.95, 1.05, 1.15)
"""Our choice."""
_ENDINGS = (".", "?", "!", ",")
"""What may stand after the last word: it changes the melody."""


class KokoroSynthesizer:
    """Says words with Kokoro, as `utterances.Synthesizer` has it; about 0.6 s for a second of sound, once for all runs."""

    def __init__(self, voice: PersonVoice) -> None:
        self._voice = voice

    def say(self, words: Sequence[str], speaker: Speaker, seed: int) -> Utterance:
        """Return the words as one sentence in the speaker's voice; `seed` decides how it ends.

        Raises:
            UserError: a word is not one word when spoken.
            UnavailableError: the packages with the weights cannot be fetched.
        """
        text = " ".join(words) + _ENDINGS[seed % len(_ENDINGS)]
        said = self._voice.render(text, voice_of_speaker(speaker), speed_of_speaker(speaker))
        audio = at_input_rate(said.audio, SAMPLE_RATE_HZ)
        return levelled(tightened(Utterance(audio, _placed(said, audio), speaker.name)))


class KokoroRenderer(SceneRenderer):
    """A maker of scenes that Kokoro speaks in, with their sound."""

    def __init__(self, plan: ScenePlan, cache: Path) -> None:
        """Keep what is spoken in `cache`, beside the packages with the weights."""
        super().__init__(plan, lambda _: KokoroSynthesizer(KokoroVoice(cache)))

    def rendered(self, task: str, number: int) -> RenderedScene:
        """Draw a scene of one task, with its sound; clips are named after who speaks."""
        made = super().rendered(task, number)
        return replace(made, scene=named_after_kokoro(made.scene))


def named_after_kokoro(scene: Scene) -> Scene:
    """Return a scene that has been rendered with the true maker of its voices in the names of clips."""
    return replace(scene, talks=tuple(_named(talk) for talk in scene.talks))


def voice_of_speaker(speaker: Speaker) -> str:
    """Which of the voices a speaker has."""
    return VOICES[_draw(speaker) % len(VOICES)]


def speed_of_speaker(speaker: Speaker) -> float:
    """How quick a speaker talks, against the voice's own pace."""
    return SPEEDS[_draw(speaker) // len(VOICES) % len(SPEEDS)]


def _placed(said: Rendering, audio: Samples) -> tuple[SpokenWord, ...]:
    """Where words lie at 16 kHz. The last one ends with the sound: its last phoneme counts the silence behind it too."""
    ratio = rate_ratio(SAMPLE_RATE_HZ)
    end = (int(np.flatnonzero(sounding_frames(audio))[-1]) + 1) * LEVEL_FRAME
    names = [timing.text.rstrip("".join(_ENDINGS)) for timing in said.words]
    starts = [round(timing.start_sample * ratio) for timing in said.words]
    ends = [*(round(timing.end_sample * ratio) for timing in said.words[:-1]), min(end, audio.size)]
    return tuple(SpokenWord(*placed) for placed in zip(names, starts, ends, strict=True))


def _draw(speaker: Speaker) -> int:
    """A number that has nothing to do with the split, which is a hash of the name too."""
    return int.from_bytes(hashlib.sha256(f"{NAME} {speaker.number}".encode()).digest()[:8])


def _named(talk: Talk) -> Talk:
    voice, slash, rest = talk.phrase.clip.partition("/")
    speaker = Speaker.named(voice)
    clip = f"{NAME}-{speaker.number:06d}{slash}{rest}"
    return replace(talk, phrase=replace(talk.phrase, clip=clip))
