"""How a program that speaks is called: arguments in, its sound and what it prints out.

The programs are only called as commands, never linked. Knows nothing of any one of them.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from microturn.interaction_model.training._errors import SpeechProgramMissingError
from microturn.interaction_model.training.audio_rate import read_sound
from microturn.protocols import Samples

MOST_SECONDS = 30.0
"""A call that takes longer is given up; usual ones take 10 to 100 ms."""


class SpeechProgram:
    """A command found on PATH; each call runs one process and blocks."""

    def __init__(self, name: str) -> None:
        """Find the command.

        Raises:
            SpeechProgramMissingError: there is none of that name on PATH.
        """
        found = shutil.which(name)
        if found is None:
            raise SpeechProgramMissingError(name)
        self.name = name
        self._path = found

    @staticmethod
    def is_installed(name: str) -> bool:
        """Whether there is a command of that name on PATH."""
        return shutil.which(name) is not None

    def speak(self, file_option: str, arguments: Sequence[str], *, speed: float) -> tuple[Samples, str]:
        """Return the sound at 16 kHz, played `speed` times as fast and as high, and what the program printed.

        `file_option` is what stands before the name of the sound file.

        Raises:
            subprocess.CalledProcessError: the program failed.
            subprocess.TimeoutExpired: the program took too long.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "speech.wav")
            command = [self._path, file_option, str(file), *arguments]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=MOST_SECONDS)
            return read_sound(file, speed=speed), done.stdout
