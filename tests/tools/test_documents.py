"""Search in documents: passages, sentences, changes on disk, and what is never read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from microturn.tools import ToolFailed
from microturn.tools.builtin.documents import (
    FOLDER_VARIABLE,
    DocumentIndex,
    DocumentLibrary,
    best_sentence,
    search_documents,
)

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

EXAMPLES = Path(__file__).parents[2] / "examples" / "documents"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "papers"
    (folder / "sub").mkdir(parents=True)
    (folder / "boiler.md").write_text(
        "# The boiler\n\nIt is in the cellar.\n\n## Pressure\nKeep it at 1.5 bar. Never above 3.\n"
    )
    (folder / "sub" / "car_manual.txt").write_text(
        "The tyres take 2.4 bar.\n\nThe oil is changed each spring.\n"
    )
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    return folder


async def test_the_best_passage_comes_first_with_its_file_and_heading(folder: Path) -> None:
    result = await search_documents("what pressure does the boiler need")

    assert result.text.startswith("[boiler.md] Pressure\nKeep it at 1.5 bar. Never above 3.")
    assert result.say.startswith("From The boiler: ")


async def test_a_document_without_a_heading_goes_by_its_file_name(folder: Path) -> None:
    result = await search_documents("tyres")

    assert result.text == "[sub/car_manual.txt] Car manual\nThe tyres take 2.4 bar."
    assert result.say == "From Car manual: The tyres take 2.4 bar."


async def test_a_changed_file_is_read_again(folder: Path) -> None:
    assert "nothing" in (await search_documents("chimney")).say
    (folder / "new.md").write_text("The chimney is swept in May.")
    assert "May" in (await search_documents("chimney")).say
    (folder / "new.md").write_text("The chimney is swept in June.")
    assert "June" in (await search_documents("chimney")).say


def test_an_unchanged_folder_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = DocumentLibrary()
    library.search(folder, "bar")
    monkeypatch.setattr("microturn.tools.builtin.documents.DocumentIndex", None)

    assert library.search(folder, "oil")[0].file == "sub/car_manual.txt"


def test_hidden_files_other_kinds_and_links_to_the_outside_are_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("The secret boiler.")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "deep.txt").write_text("The secret boiler.")
    os.symlink(tmp_path / "outside.txt", folder / "link.txt")
    os.symlink(tmp_path / "elsewhere", folder / "linked")
    (folder / ".hidden.txt").write_text("The secret boiler.")
    (folder / ".git").mkdir()
    (folder / ".git" / "notes.txt").write_text("The secret boiler.")
    (folder / "program.py").write_text("secret")

    assert DocumentIndex(folder).search("secret") == []


def test_bytes_that_are_no_text_do_no_harm(folder: Path) -> None:
    (folder / "odd.txt").write_bytes(b"\xff\xfe\x00 thermostat \x80")

    assert DocumentIndex(folder).search("thermostat")[0].file == "odd.txt"


def test_a_very_long_paragraph_is_found_in_parts(folder: Path) -> None:
    (folder / "long.txt").write_text("filler words here " * 1000 + "needle")

    (found,) = DocumentIndex(folder).search("needle")
    assert len(found.text) <= 1200


async def test_a_folder_that_does_not_exist_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "/no/such/folder")

    with pytest.raises(ToolFailed, match=FOLDER_VARIABLE):
        await search_documents("boiler")


async def test_without_a_folder_the_shipped_documents_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)

    assert "[weaving.md] Receipts" in (await search_documents("what is a receipt?")).text


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("when is the hut open", "The hut is open from 15 June to 30 September."),
        ("how do I light the stove", "before you light the stove"),
        ("how much is a fishing permit", "8 euros a day"),
        ("what number do I call in an emergency", "112"),
        ("how hot does the sauna get", "80 degrees"),
    ],
)
async def test_the_example_documents_answer_questions(
    question: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(EXAMPLES))

    assert answer in (await search_documents(question)).text


def test_the_sentence_that_is_said_has_the_words_of_the_query_and_no_markup() -> None:
    text = "First one. The **boiler** is [here](http://x). Last."

    assert best_sentence(text, "where is the boiler") == "The boiler is here."
    assert len(best_sentence("word " * 200, "word")) <= 301
