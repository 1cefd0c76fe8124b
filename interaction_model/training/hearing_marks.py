"""How well the user's words are written down: word errors, digits, and how long after its end a word stands there.

A text is compared with what was said by edit distance, without regard to times. Knows nothing of what was answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.training.conduct import Conduct
from microturn.interaction_model.training.marks import Mark
from microturn.interaction_model.training.scene import MICRO_TURN_MS, USER, Scene, Talk
from microturn.interaction_model.training.stage import turn_of

PEOPLE_VOICE = "people"
"""Where the user is a recording."""
_MINUTE_MS = 60_000


def hearing_marks(scene: Scene, conduct: Conduct) -> Iterator[tuple[str, Mark]]:
    """Yield word error rates, by the maker of the voice too, and the latency of each word that was got right."""
    said = [(word, end) for talk in _user_talks(scene) for word, end in _word_ends(talk)]
    words = [word for word, _ in said]
    pairs, errors = aligned(words, [word for _, word in conduct.heard])
    if not said:
        minutes = scene.micro_turns * MICRO_TURN_MS / _MINUTE_MS
        yield "heard_in_vain_per_minute", Mark(len(conduct.heard) / minutes, minutes)
        return
    rate = Mark(errors / len(said), len(said))
    yield "word_error_rate", rate
    yield f"word_error_rate_{voice_of(scene)}", rate
    for place, at in pairs:
        if words[place] == conduct.heard[at][1]:
            yield "heard_latency_turns", Mark(conduct.heard[at][0] - turn_of(said[place][1] - 1))


def digit_marks(scene: Scene, conduct: Conduct) -> Iterator[tuple[str, Mark]]:
    """Yield for a scene of digits the share that was written down rightly: all, single ones, those of strings.

    Words too many count against the first alone.
    """
    talks = _user_talks(scene)
    said = [word for talk in talks for word in talk.phrase.words]
    heard = [word for _, word in conduct.heard]
    pairs, errors = aligned(said, heard)
    right = {place for place, at in pairs if said[place] == heard[at]}
    yield "digits_right", Mark(1 - errors / len(said), len(said))
    first = 0
    for talk in talks:
        size = len(talk.phrase.words)
        share = sum(place in right for place in range(first, first + size)) / size
        yield "digits_single" if size == 1 else "digits_of_strings", Mark(share, size)
        first += size


def aligned(said: Sequence[str], heard: Sequence[str]) -> tuple[list[tuple[int, int]], int]:
    """Align two texts with the fewest words replaced, left out or put in (Levenshtein, 1966).

    Of several such alignments it is one in which most words are right.

    Returns:
        Places in both of the words that stand for each other, right or replaced, and the number of errors.
    """
    costs, fault = _costs(said, heard)
    pairs = []
    row, column = len(said), len(heard)
    while row and column:
        right = said[row - 1] == heard[column - 1]
        if costs[row, column] == costs[row - 1, column - 1] + (-1 if right else fault):
            row, column = row - 1, column - 1
            pairs.append((row, column))
        elif costs[row, column] == costs[row - 1, column] + fault:
            row -= 1
        else:
            column -= 1
    wrong = sum(said[place] != heard[at] for place, at in pairs)
    return pairs[::-1], wrong + len(said) + len(heard) - 2 * len(pairs)


def _costs(said: Sequence[str], heard: Sequence[str]) -> tuple[npt.NDArray[np.int64], int]:
    """The cost of aligning all beginnings of both texts, and that of one error: more than all right words gain."""
    fault = len(said) + 1
    costs = np.zeros((len(said) + 1, len(heard) + 1), np.int64)
    costs[:, 0], costs[0, :] = fault * np.arange(len(said) + 1), fault * np.arange(len(heard) + 1)
    for row, word in enumerate(said, 1):
        for column, other in enumerate(heard, 1):
            beside = costs[row - 1, column - 1] + (-1 if word == other else fault)
            costs[row, column] = min(beside, costs[row - 1, column] + fault, costs[row, column - 1] + fault)
    return costs, fault


def voice_of(scene: Scene) -> str:
    """Name what makes the user's voice: a synthesizer, or people; empty if the user is silent."""
    talks = _user_talks(scene)
    clip = talks[0].phrase.clip if talks else ""
    _, colon, _ = clip.partition(":")
    # A synthetic speaker's name ends with a number: `espeak-ng-000042/...`.
    return PEOPLE_VOICE if colon else clip.partition("/")[0].rpartition("-")[0]


def _user_talks(scene: Scene) -> list[Talk]:
    return [talk for talk in scene.talks if talk.speaker == USER and talk.phrase.words]


def _word_ends(talk: Talk) -> list[tuple[str, int]]:
    spans = zip(talk.phrase.words, talk.phrase.spans_ms, strict=True)
    return [(word, talk.start_ms + end) for word, (_, end) in spans]
