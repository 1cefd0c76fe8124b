"""What the user's words mean as the answer to "shall I?": yes, no, or neither for certain.

A closed judgement over English words: an answer is a yes where every word of it belongs to one of the phrases below,
some of them mean yes and none means no; and the other way round. Anything else is unclear, for a yes lets something
happen that may not be undone. Knows nothing of what was asked. The phrases are our choice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["yes", "no", "unclear"]
_Meaning: TypeAlias = Literal["yes", "no", "padding", "unsure"]

MOST_WORDS = 16
"""An answer with more words says more than yes or no, and is unclear. Our choice."""

_YES = """
yes, yeah, yep, yup, yea, aye, ya, sure, sure thing, certainly, definitely, absolutely, of course, by all means,
ok, okay, alright, all right, right, correct, exactly, fine, great, perfect, good, agreed, affirmative,
confirmed, i confirm, approved, i approve, i agree, i do, mm hmm, mmhmm, mhm, mm hm, uh huh, go ahead, go for it,
go on, go, do it, do that, do so, please do, you may, you can, you should, you can go ahead, that is fine,
please do it, please do that, please do so, please go ahead, please send it,
that is right, that is correct, that is good, that is ok, that is okay, sounds good, sounds great,
sounds fine, sounds right, send it, send that, make it so, let us do it, let us do that, let us, why not, i would,
i would like that, i would like you to, i would love that, no problem, yes i am sure, i am sure
"""
_NO = """
no, nope, nah, nay, never, negative, no way, not now, not yet, not today, not really, not at all, not this time,
not quite, not anymore, certainly not, of course not, absolutely not, definitely not, do not, please do not,
do not do it, do not do that, do not do so, do not send it, do not send that, better not, i would better not,
rather not, i would rather not, i would rather you did not, i do not, i do not want to, i do not want it,
i do not want that, i do not want you to, i do not think so, i said no, stop, stop it, stop that, cancel, cancel it,
cancel that, forget it, forget that, forget about it, never mind, nevermind, leave it, leave it be, leave it alone,
skip it, skip that, wait, hold on, hang on, later, maybe later, no need, there is no need, not a chance, wrong,
that is wrong, that is not right, you may not, you can not, you should not, you must not, uh uh, nuh uh, mm mm
"""
_PADDING = """
please, thanks, thank you, very much, so much, now, right now, right away, straight away, then, well, so, um, uh, er,
erm, hm, hmm, oh, ah, you know, i mean, actually, just, i said, for me, with that, already, hey, indeed, sir, maam,
and
"""
_UNSURE = """
i do not know, i am not sure, not sure, maybe, perhaps, i guess so, i guess, i think so, i suppose so, what, who, when,
where, why, how, which, is it, are you, can you, could you, would you, do you, did you, if you say so, whatever
"""
"""Neither yes nor no, and no correction either."""
_CHANGES = frozenset(
    {"but", "instead", "rather", "except", "change", "changed", "meant", "make", "only", "unless"}
)
"""Words with which people change what they were asked to approve."""
_SHORT_FORMS = (
    ("can't", "can not"),
    ("cannot", "can not"),
    ("won't", "will not"),
    ("n't", " not"),
    ("let's", "let us"),
    ("'s", " is"),
    ("'d", " would"),
    ("i'm", "i am"),
    ("dont", "do not"),
    ("'", ""),
)


def _phrases() -> dict[tuple[str, ...], _Meaning]:
    tables: tuple[tuple[str, _Meaning], ...] = (
        (_YES, "yes"),
        (_NO, "no"),
        (_PADDING, "padding"),
        (_UNSURE, "unsure"),
    )
    return {tuple(phrase.split()): meaning for table, meaning in tables for phrase in table.split(",")}


_PHRASES = _phrases()
_LONGEST = max(map(len, _PHRASES))


def judge(text: str) -> Verdict:
    """Say what an answer means. A question back is unclear, whatever its words."""
    words = _words(text)
    if len(words) > MOST_WORDS or ("?" in text and words[-2:] != ["why", "not"]):
        return "unclear"
    meanings, rest = _read(words)
    told = set(meanings) - {"padding"}
    if rest or len(told) != 1:
        return "unclear"
    return "yes" if told == {"yes"} else "no" if told == {"no"} else "unclear"


def is_correction(text: str) -> bool:
    """Whether an answer asks for something else than was to be approved, such as "yeah but to Bob instead"."""
    words = _words(text)
    meanings, rest = _read(words)
    if not rest or "unsure" in meanings or "?" in text:
        return False
    return bool({"yes", "no"} & set(meanings)) or bool(_CHANGES & set(words))


def _read(words: Sequence[str]) -> tuple[list[_Meaning], Sequence[str]]:
    """What the phrases at the beginning mean, and the words from the first one on that belongs to none."""
    meanings: list[_Meaning] = []
    at = 0
    while at < len(words):
        length = next((n for n in range(_LONGEST, 0, -1) if tuple(words[at : at + n]) in _PHRASES), 0)
        if not length:
            break
        meanings.append(_PHRASES[tuple(words[at : at + length])])
        at += length
    return meanings, words[at:]


def _words(text: str) -> list[str]:
    """The words in lower case, short forms written out, at most one more than are judged."""
    plain = re.sub(r"(.)\1{2,}", r"\1", text[:400].lower().replace("\u2019", "'"))
    for short, full in _SHORT_FORMS:
        plain = plain.replace(short, full)
    return re.findall(r"[^\W_]+", plain)[: MOST_WORDS + 1]
