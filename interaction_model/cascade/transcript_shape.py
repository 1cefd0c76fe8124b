"""What the words of an unfinished transcript show of whether the speaker goes on.

A list of yes-or-no observations about the last words, the first words and the recogniser's punctuation. Knows
nothing of sound and of how the observations are weighed.

The word lists are the closed classes of English grammar, and verbs that are rarely said without an object.
"""

from __future__ import annotations

import re


def _set(words: str) -> frozenset[str]:
    """Return the words of a line."""
    return frozenset(words.split())


_HESITATIONS = _set("um uh er erm uhm hmm hm eh ah mm")
_ARTICLES = _set("a an the")
_POSSESSIVES = _set("my your his our their its")
_PREPOSITIONS = _set(
    "of in on at by for with from to into onto about between through during without within under over near after "
    "before since until against among across towards toward behind beside than per via"
)
_PARTICLES = _set("in on over")
_CONJUNCTIONS = _set("and or but nor so because if when whether while although though unless as which")
_AUXILIARIES = _set(
    "is are was were am be been being do does did has have had will would can could shall should may might must "
    "isn't aren't don't doesn't didn't won't can't couldn't wouldn't shouldn't i'm it's that's you're we're they're "
    "i'd i'll i've he's she's what's there's where's who's how's let's gonna wanna"
)
_SUBJECTS = _set("i he she we they")
_DETERMINERS = _set("some any every each no these those another other many several")
_WH_WORDS = _set("what who whom whose where when why how which")
_DEGREES = _set("very really quite too pretty rather almost just also only even maybe not")
_NUMBERS = _set(
    "one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty hundred thousand "
    "half quarter couple"
)
_OPEN_VERBS = _set(
    "find book set call tell send add remind show give want need play convert explain check know make get put buy "
    "write search order translate recommend cancel move calculate read take let bring ask think say wonder"
)
_OPENERS = _set("if when before after because since while once until although whenever as")
_LEADS = _set("well so okay please hey also and then hi hello um uh yes no oh")
_OWN = _set("i i'm i've i'd i'll we we're we've my our it it's there there's the")
_POLITE = _set("please thanks thank")
_WORD = re.compile(r"[\w']+")

_LAST_WORD: dict[str, frozenset[str]] = {
    "ends in a hesitation": _HESITATIONS,
    "ends in an article": _ARTICLES,
    "ends in a possessive": _POSSESSIVES,
    "ends in a preposition": _PREPOSITIONS - _PARTICLES,
    "ends in a preposition that may end a sentence": _PREPOSITIONS & _PARTICLES,
    "ends in a conjunction": _CONJUNCTIONS,
    "ends in an auxiliary": _AUXILIARIES,
    "ends in a subject": _SUBJECTS,
    "ends in a determiner": _DETERMINERS,
    "ends in a question word": _WH_WORDS,
    "ends in a word of degree": _DEGREES,
    "ends in a number": _NUMBERS,
    "ends in a verb without its object": _OPEN_VERBS,
    "ends politely": _POLITE,
    "ends in me": frozenset({"me"}),
    "ends in that": frozenset({"that", "this"}),
    "ends in it": frozenset({"it", "him"}),
}
"""The recogniser often writes a cut-off article as "it": `set a` becomes "Set it."."""


def observe(text: str) -> dict[str, float]:
    """Return every observation by name: 1 where it holds, 0 where it does not."""
    words = _WORD.findall(text.lower())
    stripped = text.rstrip(" \"'")
    last = words[-1] if words else ""
    seen = {name: float(last in known) for name, known in _LAST_WORD.items()}
    if len(words) > 1 and words[-2] in _AUXILIARIES:  # "where am I?", "what time is it?" are whole
        seen["ends in a subject"] = seen["ends in it"] = 0.0
    seen["ends in digits"] = float(last.isdigit())
    seen["ends with a full stop"] = float(stripped.endswith((".", "!")) and not stripped.endswith(".."))
    seen["ends with a question mark"] = float(stripped.endswith("?"))
    seen["ends with a comma or dots"] = float(stripped.endswith((",", "-", "\u2026", "..", ":", ";")))
    seen["ends with no mark"] = float(bool(stripped) and stripped[-1].isalnum())
    seen["has no words"] = float(not words)
    seen["has one word"] = float(len(words) == 1)
    seen["has two or three words"] = float(len(words) in (2, 3))
    seen["says a word twice at the end"] = float(len(words) > 1 and last == words[-2])
    return seen | _clauses(text, words)


def _clauses(text: str, words: list[str]) -> dict[str, float]:
    """Observe how the sentence begins and whether what that promises has come."""
    core = list(words)
    while core and core[0] in _LEADS:
        core.pop(0)
    sentence = re.split(r"[.!?]\s+", text.strip())[-1].lower()
    opening = _WORD.findall(sentence)
    opens = bool(opening) and opening[0] in _OPENERS
    tail = _WORD.findall(sentence.rpartition(",")[2]) if "," in sentence else []
    asks = bool(core) and (core[0] in _WH_WORDS or core[0] in _AUXILIARIES)
    return {
        "a first clause waits for the main one": float(opens and len(tail) < 3),
        "a first clause has its main one": float(opens and len(tail) >= 3),
        "is a question of five words or more": float(asks and len(core) >= 5),
        "is a short question": float(asks and len(core) < 5),
        "is a question without its mark": float(asks and not text.rstrip().endswith("?")),
        "is a request": float(bool(core) and (core[0] in _OPEN_VERBS or core[:1] == ["turn"])),
        "is a statement about oneself": float(bool(core) and core[0] in _OWN),
    }
