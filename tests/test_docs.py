"""The documentation: its code runs, its links lead somewhere, its map shows every file."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
CARD = ROOT / "interaction_model/native/weights/MODEL_CARD.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), CARD])
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


BLOCKS = [
    pytest.param(page, match, id=f"{name_of(page)} block {number}")
    for page in PAGES
    for number, match in enumerate(_BLOCK.finditer(page.read_text("utf-8")), start=1)
]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_a_block_of_code_runs_as_it_stands(
    page: Path, block: re.Match[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    before = page.read_text("utf-8")[: block.start(1)].count("\n")
    source = "\n" * before + block.group(1)  # so that an error names the line of the page
    exec(compile(source, str(page), "exec"), {"__name__": "__main__"})  # noqa: S102  # because the pages are ours


def test_the_front_page_has_code() -> None:
    assert any(str(block.id).startswith("README.md") for block in BLOCKS)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    text = _FENCED.sub("", page.read_text("utf-8"))
    targets = [link.partition("#")[0] for link in _LINK.findall(text) if "://" not in link]
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a checkout")
def test_the_map_shows_every_file() -> None:
    rendered = runpy.run_path(str(ROOT / "docs/make_map.py"))["render"]()
    there = (ROOT / "docs/map.md").read_text("utf-8")
    outdated = set(rendered.splitlines()) ^ set(there.splitlines())
    assert rendered == there, f"run `python docs/make_map.py`; lines that differ: {sorted(outdated)[:10]}"


def test_every_file_on_the_map_says_what_it_is() -> None:
    assert "(says nothing of itself)" not in (ROOT / "docs/map.md").read_text("utf-8")


GUARANTEES = (ROOT / "docs/guarantees.md").read_text("utf-8")
_PROVED_BY = re.compile(r"`(test_\w+)::(test_\w+)`")


def test_every_test_that_a_guarantee_names_is_there() -> None:
    named = set(_PROVED_BY.findall(GUARANTEES))
    there = {
        (path.stem, name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert len(named) > 50
    assert named - there == set()


def test_every_guarantee_names_a_test() -> None:
    rows = [line for line in GUARANTEES.splitlines() if line.startswith("| ") and "| proof |" not in line]
    assert [row for row in rows if not _PROVED_BY.search(row)] == []
