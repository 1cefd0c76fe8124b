"""The recogniser's token table and its guard against loops."""

from __future__ import annotations

from pathlib import Path

import pytest

from microturn.interaction_model._errors import WeightsMismatchError
from microturn.interaction_model.cascade.recognizer_tokens import TokenTable, repeats

pytestmark = pytest.mark.unit


def write(folder: Path, *pieces: bytes) -> Path:
    """Write a table; pieces are shorter than 128 bytes."""
    path = folder / "tokens.bin"
    path.write_bytes(b"".join(bytes([len(piece)]) + piece for piece in pieces))
    return path


def test_pieces_become_text_without_special_tokens(tmp_path: Path) -> None:
    path = write(
        tmp_path, b"<unk>", b"<s>", b"</s>", "\u2581caf".encode(), "é".encode(), "\u2581now".encode()
    )
    assert TokenTable.read(path).text([1, 3, 4, 5, 2, 99]) == "café now"


def test_half_a_letter_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path, b"<unk>", b"<s>", b"</s>", b"a", "é".encode()[:1])
    assert TokenTable.read(path).text([3, 4]) == "a"


def test_a_cut_off_table_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, b"<unk>", b"<s>", b"</s>", b"abc")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsMismatchError, match="tokens"):
        TokenTable.read(path)


@pytest.mark.parametrize(
    ("ids", "surplus"),
    [
        ([5, 6, 7], 0),
        ([5, 6, 5, 6], 0),
        ([9, 5, 6, 5, 6, 5, 6], 4),
        ([4, 4, 4, 4, 4], 0),
        ([4, 4, 4, 4, 4, 4], 5),
        ([1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4], 8),
        ([5, 6, 5, 6, 5, 6, 7], 0),
    ],
)
def test_only_what_is_said_again_and_again_is_a_loop(ids: list[int], surplus: int) -> None:
    assert repeats(ids) == surplus
