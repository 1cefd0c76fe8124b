"""Which written word each spoken word belongs to.

A text is written out before it is said ("816" becomes three words, "7:30 pm" three more). Words that come through
unchanged are anchors; what lies between two anchors is shared out by how long each written word is when said
alone. Knows nothing of sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import SequenceMatcher


def align(written: Sequence[str], spoken: Sequence[str], weigh: Callable[[str], int]) -> list[int | None]:
    """Return for each spoken word the number of the written word it belongs to; never decreasing.

    Args:
        written: Words of the original text.
        spoken: Words as they are said.
        weigh: How long a written word is when said alone, in any unit. Called only where words changed.

    None stands only where there is no written word at all.
    """
    if not written:
        return [None] * len(spoken)
    owners: list[int | None] = [None] * len(spoken)
    matcher = SequenceMatcher(None, [_key(w) for w in written], [_key(s) for s in spoken], autojunk=False)
    for tag, first, last, begin, end in matcher.get_opcodes():
        if tag == "equal":
            owners[begin:end] = range(first, last)
        elif first == last:  # said but not written: belongs to the word before
            owners[begin:end] = [max(first - 1, 0)] * (end - begin)
        else:
            owners[begin:end] = [
                first + at for at in _shares([weigh(w) for w in written[first:last]], end - begin)
            ]
    return owners


def _key(word: str) -> str:
    """Return what is compared: letters and digits only, so that a comma makes no difference."""
    return "".join(letter for letter in word.lower() if letter.isalnum())


def _shares(weights: Sequence[int], count: int) -> list[int]:
    """Share `count` places out in order, in proportion to the weights; return the owner of each place."""
    total = sum(weights)
    if total == 0:
        return [len(weights) - 1] * count
    owners: list[int] = []
    owner, passed = 0, weights[0]
    for place in range(count):
        middle = (place + 0.5) * total / count
        while passed < middle and owner < len(weights) - 1:
            owner += 1
            passed += weights[owner]
        owners.append(owner)
    return owners
