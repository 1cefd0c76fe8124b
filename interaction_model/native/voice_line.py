"""The sound of one session's mouth as outputs carry it: nothing in silence, and a little ahead of the beat in speech."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from microturn.interaction_model.native.renderer import Renderer
from microturn.interaction_model.native.vocoder_frames import Codes
from microturn.protocols import OUTPUT_LEAD_SAMPLES, SILENCE, Samples


@dataclass(frozen=True, slots=True, eq=False)
class VoiceLine:
    """Where the sound of a session is. A value: keep it to go back to it."""

    renderer: Renderer
    has_lead: bool = False
    """Whether sound that was given out still lies ahead of the beat."""

    @classmethod
    def begin(cls, seed: int) -> VoiceLine:
        """Before the first sound."""
        return cls(Renderer(seed))

    def paused(self) -> VoiceLine:
        """Return it after missed steps: what was ahead of the beat has been played."""
        return VoiceLine(self.renderer)

    def quiet(self) -> tuple[Samples, int, VoiceLine]:
        """Say nothing for 200 ms: an empty output, no lead, and the line from there on."""
        return SILENCE, 0, self.paused()

    def sounding(self, frames: Codes) -> tuple[Samples, int, VoiceLine]:
        """Say 16 frames, `(16, 48)`.

        Returns:
            The sound, which begins with 40 ms of silence where speech begins, so that a step that is a little late
            leaves no gap; how many samples that is; and the line from there on.
        """
        # A copy shares the arrays, which a renderer replaces and never changes.
        renderer = copy.copy(self.renderer)
        audio = renderer.render(frames)
        lead = 0 if self.has_lead else OUTPUT_LEAD_SAMPLES
        if lead:
            audio = np.concatenate([np.zeros(lead, np.float32), audio])
        return audio, lead, VoiceLine(renderer, has_lead=True)
