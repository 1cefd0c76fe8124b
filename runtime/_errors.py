"""Errors of the runtime.

UserError
├── AudioFileError              a recording cannot be read or written
└── BadFrameError               a camera frame is no picture
UnavailableError
├── AudioDeviceError            no microphone or speaker can be opened
├── MissingExtraError           an optional package is not installed
└── ViewerRefusedError          the system does not let the trace viewer run in safety
ProtocolError
└── WovenItemError              the name of a woven utterance cannot be read
"""

from __future__ import annotations

from microturn.protocols import ProtocolError, UnavailableError, UserError


class AudioFileError(UserError):
    """A recording cannot be read or written; the text names the file and what would help."""


class BadFrameError(UserError):
    """A camera frame is no RGB picture of uint8."""

    def __init__(self, got: object) -> None:
        super().__init__(
            f"tried to show a camera frame: expected RGB pixels of (height, width, 3) uint8, got {got!r}; convert it "
            "before it is shown"
        )


class AudioDeviceError(UnavailableError):
    """No microphone or speaker can be opened; the text says what can be used instead."""


class MissingExtraError(UnavailableError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: pip install 'microturn[{extra}]'"
        )


class ViewerRefusedError(UnavailableError):
    """The system does not let the trace viewer run in safety; all else of tracing works."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"cannot show traces on this machine: {reason}; set OTEL_EXPORTER_OTLP_ENDPOINT to a collector of yours, or "
            "MICROTURN_TRACE=1 to keep traces in files"
        )
        self.reason = reason
        """What the system refuses, in words for the user."""


class WovenItemError(ProtocolError):
    """The name of a woven utterance cannot be read; the text says how such a name is made."""
