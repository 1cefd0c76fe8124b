"""What the doctor finds on machines that lack something."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from microturn.interaction_model import InteractionModel
from microturn.interaction_model.native import NoShippedWeightsError
from microturn.kernels._errors import NativeExtraMissingError
from microturn.protocols import MicroturnError
from microturn.runtime import doctor
from microturn.runtime.doctor import Finding, examine, report
from microturn.runtime.interaction_models import NEEDED_WEIGHTS
from microturn.runtime.testing import ScriptedModel
from microturn.weights import WEIGHTS

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

REQUIREMENTS = [
    "anyio>=4.8",
    'hibari-tts==0.2.1; extra == "speech"',
    'scipy>=1.14; extra == "speech"',
    'miniaudio>=1.61; extra == "speech"',
    'xllamacpp>=2026.10; extra == "local-llm"',
    'pytest>=9; extra == "dev"',
]


def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def printed(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


async def test_this_machine_is_examined_as_a_whole() -> None:
    findings = by_name(await examine())
    for name in ("Python", "platform", "package soundfile", "weights silero-vad", "built-in Redis server"):
        assert findings[name].detail
    for name in ("sound devices", "free memory", "processor cores", "weights folder", "state folder"):
        assert findings[name].detail
    assert "Redis server" not in findings
    assert findings["Python"].ok
    for finding in findings.values():
        assert finding.ok or finding.remedy, f"nothing is said of how to mend {finding.name}"


async def test_a_given_server_and_endpoint_are_examined_in_place_of_the_local_ones(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/none.sock"
    findings = by_name(await examine(redis_url=url, model_url="http://127.0.0.1:9/v1"))
    assert findings["Redis server"].is_error
    assert not findings["model endpoint"].ok
    assert not findings["model endpoint"].is_error
    assert "built-in Redis server" not in findings
    assert not any(name.startswith("weights qwen") for name in findings)


def test_packages_are_judged_by_their_metadata() -> None:
    versions = {"hibari-tts": "0.2.2", "scipy": "1.14.0", "xllamacpp": "2025.9.1"}
    found = by_name(list(doctor.packages(REQUIREMENTS, versions.get)))
    assert list(found) == ["package hibari-tts", "package scipy", "package miniaudio", "package xllamacpp"]
    assert found["package hibari-tts"].is_error
    assert "0.2.2, expected ==0.2.1" in found["package hibari-tts"].detail
    assert found["package scipy"].ok
    assert not found["package miniaudio"].ok
    assert not found["package miniaudio"].is_error
    assert found["package miniaudio"].remedy == "pip install 'microturn[speech]'"
    assert not found["package xllamacpp"].ok


def test_a_native_model_that_works_is_timed() -> None:
    model = ScriptedModel()
    finding = doctor.native_model(lambda: model)
    assert finding.ok
    assert re.match(r"a step takes \d+ ms of its 200", finding.detail)
    assert len(model.sessions["doctor"].inputs) == 5


@pytest.mark.parametrize(
    "error",
    [NativeExtraMissingError("torch"), NoShippedWeightsError(Path("weights"))],
    ids=["no package", "no weights"],
)
def test_a_native_model_that_cannot_be_loaded_is_a_note_that_says_what_to_do(error: MicroturnError) -> None:
    def fail() -> InteractionModel:
        raise error

    finding = doctor.native_model(fail)
    assert not finding.ok
    assert not finding.is_error
    assert finding.remedy == f"{error}."


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("1.9", ">=1.10", False),
        ("1.10.1", ">=1.10", True),
        ("2.0rc1", ">=2.0", True),
        ("0.2.1", "==0.2.1", True),
        ("0.2.10", "==0.2.1", False),
        ("3.0", ">=1,<4", True),
        ("3.0", "", True),
    ],
)
def test_versions_are_compared_by_number(version: str, wanted: str, fits: bool) -> None:
    assert doctor.satisfies(version, wanted) is fits


def test_an_old_python_is_an_error() -> None:
    finding = doctor.python_version((3, 10))
    assert finding.is_error
    assert "3.11 or later" in finding.remedy
    assert doctor.python_version((3, 11)).ok


def test_a_missing_weight_names_the_command_that_fetches_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MICROTURN_CACHE", str(tmp_path))
    finding = doctor.weight("smart-turn", needed=True)
    assert finding.is_error
    assert finding.remedy == "microturn weights fetch speech"
    assert doctor.weight("qwen2.5-coder-0.5b", needed=False).remedy.endswith("fetch qwen2.5-coder-0.5b")


def test_a_wrong_weight_is_told_apart_from_a_missing_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MICROTURN_CACHE", str(tmp_path))
    other = tmp_path / "other.onnx"
    other.write_bytes(b"not the pinned bytes")
    monkeypatch.setenv(WEIGHTS["smart-turn"].variable, str(other))
    finding = doctor.weight("smart-turn", needed=True)
    assert finding.detail == "wrong file"
    assert str(other) in finding.remedy


def test_every_needed_weight_is_known() -> None:
    assert set(NEEDED_WEIGHTS) <= set(WEIGHTS)


@pytest.mark.parametrize(
    ("url", "detail"), [("redis://127.0.0.1:1/0", "cannot be used"), ("http://host", "cannot be used")]
)
async def test_a_redis_url_that_does_not_work_is_an_error(url: str, detail: str) -> None:
    finding = await doctor.redis_server(url)
    assert finding.is_error
    assert detail in finding.detail


async def test_the_password_of_a_url_is_never_shown() -> None:
    redis = await doctor.redis_server("redis://me:hunter2@127.0.0.1:1/0")
    refusing = httpx.MockTransport(lambda _: httpx.Response(200))
    model = await doctor.model_endpoint("https://me:hunter2@models.example/v1?key=hunter2", None, refusing)
    for finding in (redis, model):
        assert "hunter2" not in finding.detail + finding.remedy


@pytest.mark.parametrize(
    ("status", "ok", "remedy"), [(200, True, ""), (404, True, ""), (401, False, "KEY"), (503, False, "log")]
)
async def test_a_model_endpoint_is_asked_with_its_key(status: int, ok: bool, remedy: str) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status)

    finding = await doctor.model_endpoint("http://models/v1/", "secret", httpx.MockTransport(answer))
    assert finding.ok is ok
    assert remedy in finding.remedy
    assert str(asked[0].url) == "http://models/v1/models"
    assert asked[0].headers["authorization"] == "Bearer secret"


async def test_an_endpoint_that_is_down_is_a_note_with_a_remedy() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    finding = await doctor.model_endpoint("http://models/v1", None, httpx.MockTransport(refuse))
    assert not finding.ok
    assert not finding.is_error
    assert "ConnectError" in finding.detail


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    assert doctor.folder("f", tmp_path / "not" / "there").ok
    assert not (tmp_path / "not").exists()
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    assert doctor.folder("f", in_the_way / "below").is_error


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert doctor.folder("f", tmp_path / "below").is_error


def test_little_memory_and_one_core_are_notes() -> None:
    for finding in (doctor.memory(200_000_000), doctor.cores(1)):
        assert not finding.ok
        assert not finding.is_error
        assert finding.remedy
    assert doctor.memory(8_000_000_000).ok
    assert doctor.cores(2).ok


def test_the_report_is_green_when_only_notes_are_left() -> None:
    to = console()
    status = report(to, [Finding("a", True, "fine", needed=True), Finding("b", False, "absent", "get b")])
    assert status == 0
    assert "Ready" in printed(to)
    assert "get b" in printed(to)


def test_the_report_fails_and_says_once_what_must_be_mended() -> None:
    to = console()
    missing = [Finding(name, False, "absent", "pip install it [all]", needed=True) for name in ("a", "b")]
    assert report(to, missing) == 1
    text = printed(to)
    assert text.count("pip install it [all]") == 1
    assert "To be mended" in text
    assert "Ready" not in text
