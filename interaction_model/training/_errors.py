"""Errors of making the native model.

MicroturnError
├── UserError
│   └── BankMismatchError           a folder holds other data than was asked for
├── UnavailableError
│   ├── SpeechProgramMissingError   a program that speaks is not installed
│   └── SpeechDataMissingError      recordings of people are not where they were looked for
└── WordTimesError                  a program that speaks gave no usable times of words
"""

from __future__ import annotations

from pathlib import Path

from microturn.protocols import MicroturnError, UnavailableError, UserError


class BankMismatchError(UserError):
    """A folder holds other data than was asked for, so that nothing can be added to it."""

    def __init__(self, folder: Path, *, expected: str, got: str) -> None:
        super().__init__(
            f"tried to go on with the data in {folder.name!r}: expected the plan {expected}, got {got}; "
            "name an empty folder, or the arguments that it was made with"
        )


class SpeechProgramMissingError(UnavailableError):
    """A program that speaks is not installed; it is called as a command, and is never required."""

    def __init__(self, program: str) -> None:
        super().__init__(
            f"looked for the program {program!r} on PATH and did not find it; "
            f"install it with the system's package manager, or leave its speakers out"
        )
        self.program = program


class SpeechDataMissingError(UnavailableError):
    """Recordings of people are not where they were looked for."""

    def __init__(self, what: str, folder: Path) -> None:
        super().__init__(
            f"looked for {what} in {folder} and found none; "
            "name the folder that holds it with MICROTURN_SPEECH_DATA or as an argument"
        )


class WordTimesError(MicroturnError):
    """A program that speaks gave no usable times of words."""

    def __init__(self, program: str, *, expected: str, got: str) -> None:
        super().__init__(
            f"asked {program!r} where words lie in its sound: expected {expected}, got {got}; "
            "say the words one by one instead"
        )
