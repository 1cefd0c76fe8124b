"""Transcripts of recordings: what was said, and when, as a file that the task of reading aloud is made from.

A transcript of a recogniser is two hearings of the same recording; where they differ, the words are in doubt. Knows
nothing of how the words were found.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import WORDS
from microturn.interaction_model.training._errors import BadTrainConfigError
from microturn.interaction_model.training.forced_alignment import AlignedWord
from microturn.interaction_model.training.speakers import Split

FORMAT = 1
MISFIT_LIMIT = 0.45
"""Words that fit worse are in doubt: the recording does not sound like them. Our choice."""
_VOCABULARY = frozenset(WORDS)


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is said in one recording."""

    words: tuple[AlignedWord, ...]
    """In the order of time, lower case, also those that are no words of the vocabulary; none if nothing was understood."""
    again: Words
    """The words as they were understood a second time; of a given text, the same."""

    def doubtful(self) -> frozenset[int]:
        """Return the places of the words that may be wrong, as far as words of the vocabulary go.

        That a name was heard in two ways is no doubt: neither is written down. A number in digits may have been said in any way.
        """
        first = [word.word for word in self.words]
        doubts = {place for place, word in enumerate(self.words) if _is_odd(word)}
        matcher = SequenceMatcher(None, first, self.again, autojunk=False)
        for tag, begin, end, start, stop in matcher.get_opcodes():
            if tag != "equal" and not _VOCABULARY.isdisjoint((*first[begin:end], *self.again[start:stop])):
                # Where a word is missing altogether, its neighbours stand for the place.
                doubts.update(range(begin, end) if begin < end else (begin - 1, begin))
        return frozenset(doubts & set(range(len(first))))


@dataclass(frozen=True, slots=True)
class TranscriptFile:
    """A file of transcripts."""

    split: Split
    recognizer: str
    """Name and version of who understood the words; how they were known, if that was not by hearing."""
    files: Mapping[str, Transcript]
    """By the name of the recording."""

    def save(self, path: Path) -> None:
        """Write it; a file that is there is replaced as a whole. Equal transcripts give equal bytes."""
        content = {
            "format": FORMAT,
            "split": self.split.value,
            "recognizer": self.recognizer,
            "files": {
                name: {"words": [astuple(word) for word in each.words], "again": " ".join(each.again)}
                for name, each in sorted(self.files.items())
            },
        }
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(content, indent=None, separators=(",", ":")), "utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> TranscriptFile:
        """Read it.

        Raises:
            BadTrainConfigError: there is no such file, or it is none of transcripts.
        """
        try:
            content: dict[str, Any] = json.loads(path.read_text("utf-8"))
            if content["format"] != FORMAT:
                raise ValueError("format")
            files = {name: _transcript(each) for name, each in content["files"].items()}
            return cls(Split(content["split"]), str(content["recognizer"]), files)
        except (OSError, LookupError, TypeError, ValueError) as error:
            expected = "a file that the command `transcribe` has written"
            raise BadTrainConfigError("transcripts", expected=expected, got=path.name) from error


def _is_odd(word: AlignedWord) -> bool:
    return word.misfit > MISFIT_LIMIT or any(letter.isdigit() for letter in word.word)


def _transcript(content: Mapping[str, Any]) -> Transcript:
    words = tuple(
        AlignedWord(str(word), int(begin), int(end), float(misfit))
        for word, begin, end, misfit in content["words"]
    )
    return Transcript(words, tuple(content["again"].split()))
