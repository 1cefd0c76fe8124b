"""Errors of making the native model.

MicroturnError
├── UserError
│   ├── BadTrainConfigError         a training run was asked for that makes no sense
│   ├── BankMismatchError           a folder holds other data than was asked for
│   ├── NoScenesError               there is nothing to train on
│   └── RunExistsError              a folder holds a run that was not asked to go on
├── UnavailableError
│   ├── BadShardError               a shard of scenes that cannot be read
│   ├── NoStateError                there is no state of a run that can be read
│   ├── PlotsMissingError           the package that draws curves is not installed
│   ├── StateNotWrittenError        the state of a run could not be saved
│   ├── SpeechProgramMissingError   a program that speaks is not installed
│   └── SpeechDataMissingError      recordings of people are not where they were looked for
├── DivergedError                   loss or gradients were not finite for many steps
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


class BadTrainConfigError(UserError):
    """A training run was asked for that makes no sense."""

    def __init__(self, field: str, *, expected: str, got: object) -> None:
        super().__init__(f"a training run needs {field} to be {expected}, got {got!r}")


class NoScenesError(UserError):
    """There is nothing to train on."""

    def __init__(self, folder: Path, *, expected: str, got: str) -> None:
        super().__init__(
            f"looked for scenes in {folder.name!r}: expected {expected}, got {got}; write shards there first"
        )


class RunExistsError(UserError):
    """A folder holds a run that was not asked to go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"expected {folder.name!r} to hold no run yet, found the state of one; "
            "pass --resume to go on with it, or name another folder"
        )


class BadShardError(UnavailableError):
    """A shard of scenes that cannot be read."""

    def __init__(self, shard: Path, *, expected: str, got: str) -> None:
        super().__init__(
            f"tried to read the shard {shard.name!r}: expected {expected}, got {got}; write the shard again"
        )


class NoStateError(UnavailableError):
    """There is no state of a run that can be read."""

    def __init__(self, folder: Path, *, broken: int) -> None:
        super().__init__(
            f"looked in {folder.name!r} for the state of a run: expected one that can be read, "
            f"found none and {broken} broken; leave --resume out to begin anew"
        )


class PlotsMissingError(UnavailableError):
    """The package that draws curves is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "tried to draw curves and found no matplotlib; install it with `pip install microturn[speech]`"
        )


class StateNotWrittenError(UnavailableError):
    """The state of a run could not be saved."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"tried to save the state of the run in {folder.name!r} and could not: {reason}; "
            "free some space, then go on from the state before with --resume"
        )


class DivergedError(MicroturnError):
    """Loss or gradients were not finite for many steps in a row."""

    def __init__(self, steps: int, last: int) -> None:
        super().__init__(
            f"expected finite loss and gradients, got none in {steps} steps in a row up to step {last}; "
            "go on from an earlier state with a lower learning rate"
        )
