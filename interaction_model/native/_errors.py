"""Errors of the native model.

MicroturnError
├── UserError
│   ├── BadConfigError              sizes of a network that do not fit each other
│   ├── BadEmbeddingsError          embeddings, segments or sessions that do not fit the network
│   ├── BadFramesError              camera frames of the wrong shape or dtype
│   ├── ClosedSessionError          a session was used after it was closed, or with another model
│   ├── ForeignCheckpointError      a file of weights that this program did not write, or of another network
│   ├── FutureCheckpointError       a file of weights in a newer format than this program knows
│   ├── UnknownWordsError           words were handed in that the vocabulary does not have
│   └── VocabularyMismatchError     weights that were trained with another vocabulary
└── UnavailableError
    ├── CheckpointMissingError      there is no file of weights at this place
    ├── CorruptCheckpointError      a file of weights that was cut short or changed
    ├── NoShippedWeightsError       this version carries no weights of the native model
    └── TooManySessionsError        more sessions were opened than memory was set aside for
"""

from __future__ import annotations

from pathlib import Path

from microturn.protocols import UnavailableError, UserError


class BadConfigError(UserError):
    """Sizes of a network that do not fit each other."""

    def __init__(self, config: str, field: str, *, expected: str, got: object) -> None:
        super().__init__(f"{config}: expected {field} to be {expected}, got {got!r}")
        self.field = field


class BadEmbeddingsError(UserError):
    """Embeddings, segments or sessions that do not fit the network."""

    def __init__(self, what: str, *, expected: str, got: object) -> None:
        super().__init__(f"the backbone expected {what} to be {expected}, got {got!r}")


class BadFramesError(UserError):
    """Camera frames of the wrong shape or dtype."""

    def __init__(self, *, expected: str, got: object) -> None:
        super().__init__(f"the eyes expected frames to be {expected}, got {got!r}")


class ClosedSessionError(UserError):
    """A session was used after it was closed, or with another model than its own."""

    def __init__(self) -> None:
        super().__init__(
            "tried to use a session that this model does not have: expected one that it opened and that is not "
            "closed; open a new one"
        )


class ForeignCheckpointError(UserError):
    """A file of weights that this program did not write, or that belongs to another network."""

    def __init__(self, path: Path, *, expected: str, got: str) -> None:
        super().__init__(
            f"tried to load the weights in {path.name!r}: expected {expected}, got {got}; "
            "use a checkpoint written by microturn for this network, or train one"
        )


class FutureCheckpointError(UserError):
    """A file of weights in a newer format than this program knows."""

    def __init__(self, path: Path, *, known: int, got: int) -> None:
        super().__init__(
            f"tried to load the weights in {path.name!r}: expected format {known!r} or older, got {got!r}; "
            "install a newer microturn"
        )


class UnknownWordsError(UserError):
    """Words were handed in that the vocabulary does not have; the text says how many, never which."""

    def __init__(self, count: int, where: str) -> None:
        super().__init__(
            f"expected only words of the native model's vocabulary in {where}, got {count} others; "
            "see `microturn.interaction_model.native.vocabulary.WORDS`"
        )
        self.count = count


class VocabularyMismatchError(UserError):
    """Weights that were trained with another vocabulary, so that ids would mean other words."""

    def __init__(self, path: Path, *, expected: str, got: str) -> None:
        super().__init__(
            f"tried to load the weights in {path.name!r}: expected the vocabulary {expected[:12]!r}, "
            f"got {got[:12]!r}; use the checkpoint of this version, or train anew"
        )


class CheckpointMissingError(UnavailableError):
    """There is no file of weights at this place."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"tried to load weights from {str(path)!r} and found no file there; check the path or train a model"
        )


class CorruptCheckpointError(UnavailableError):
    """A file of weights that was cut short or changed."""

    def __init__(self, path: Path, *, expected: str, got: str) -> None:
        super().__init__(
            f"tried to load the weights in {path.name!r}: expected {expected}, got {got}; "
            "fetch or write the file again"
        )


class NoShippedWeightsError(UnavailableError):
    """This version carries no weights of the native model."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"tried to load the native model's own weights and found none in {folder.name!r} of the package: this "
            "version carries none; train a model and name its folder, by `microturn talk --model native --weights "
            "FOLDER` or to `load_native`"
        )


class TooManySessionsError(UnavailableError):
    """More sessions were opened than memory was set aside for."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"tried to open a session beside the {limit!r} that there is memory for; close one, or load the model "
            "with more `StateWindow.sessions`"
        )
