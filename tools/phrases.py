"""Phrases: ways of asking for a tool that are understood at once, without a model.

A tool may say how it is asked for: `what is the weather [like] in {city}`. Words in square brackets may be left out,
`(a|b)` is a choice, and a name in braces takes whatever stands there as that argument. A text that fits a phrase as
a whole calls the tool in milliseconds; everything else is left to the reasoning model. Knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from microturn.protocols import UserError

_TOKEN = re.compile(r"\{[a-z_]\w*\}|[\[\](|)]|[^\s\[\](){}|]+")
_HESITATION = re.compile(r"\b(?:um+|uh+|er+|erm|hmm+)\b")
_MARKS = re.compile(r"(?<!\d)[.,](?!\d)|(?<=\d)[.,](?!\d)|(?<!\d)[.,](?=\d)|[?!;:\"\u2026]")
_COURTESY_BEFORE = re.compile(
    r"^(?:(?:please|hey|hi|okay|ok|so|well|and|now|then|also|alright|all right|thanks|"
    r"(?:can|could|would|will) you|do you know|i (?:want|would like|'d like) to know)\s+)+"
)
_COURTESY_AFTER = re.compile(r"(?:\s+(?:please|for me|thanks|thank you))+$")


@dataclass(frozen=True, slots=True)
class Phrase:
    """One way of asking for a tool."""

    template: str
    arguments: Callable[[Mapping[str, str]], dict[str, JsonValue] | None] | None = None
    """Makes the arguments of what stood in the braces; None where that cannot be one. Without it each name is an
    argument, as text."""


@dataclass(frozen=True, slots=True)
class Match:
    """A call that a text asks for."""

    tool: str
    arguments: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class _Entry:
    tool: str
    phrase: Phrase
    pattern: re.Pattern[str]
    literals: int


class PhraseBook:
    """The phrases of some tools; a registry keeps one."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def add(self, tool: str, phrases: Iterable[Phrase]) -> None:
        """Read the phrases of a tool; those that it had before are forgotten.

        Raises:
            UserError: a template cannot be read.
        """
        others = [entry for entry in self._entries if entry.tool != tool]
        entries = [*others, *(_entry(tool, phrase) for phrase in phrases)]
        self._entries = sorted(entries, key=lambda entry: -entry.literals)

    def match(self, text: str) -> list[Match]:
        """Return the calls that a text may ask for, the most particular phrase first; no tool comes twice."""
        plain = f" {plain_request(text)}"
        found: dict[str, Match] = {}
        for entry in self._entries:
            fit = entry.pattern.fullmatch(plain)
            if fit is None or entry.tool in found:
                continue
            named = {name: value.strip() for name, value in fit.groupdict().items() if value}
            arguments = dict(named) if entry.phrase.arguments is None else entry.phrase.arguments(named)
            if arguments is not None:
                found[entry.tool] = Match(entry.tool, dict(arguments))
        return list(found.values())


def plain_request(text: str) -> str:
    """Return what is asked in lower case, without hesitations, courtesies and punctuation."""
    plain = _MARKS.sub(" ", text.casefold().replace("\u2019", "'"))
    plain = " ".join(_HESITATION.sub(" ", plain).split())
    plain = _COURTESY_BEFORE.sub("", plain)
    return _COURTESY_AFTER.sub("", plain)


def _entry(tool: str, phrase: Phrase) -> _Entry:
    tokens = _TOKEN.findall(phrase.template.casefold())
    if "".join(tokens) != "".join(phrase.template.casefold().split()) or not tokens:
        raise UserError(
            f"tool `{tool}` has a phrase that cannot be read: {phrase.template!r}; use words, {{argument}}, "
            "[left out] and (this|that)"
        )
    pattern, rest = _alternatives(tokens)
    if rest:
        raise UserError(f"tool `{tool}` has a phrase with a bracket that is not opened: {phrase.template!r}")
    literals = sum(token[0].isalnum() for token in tokens)
    return _Entry(tool, phrase, re.compile(pattern), literals)


def _alternatives(tokens: list[str]) -> tuple[str, list[str]]:
    """Read up to the end or a closing bracket; return the pattern and what follows, the bracket included."""
    pattern = ""
    while tokens and tokens[0] not in ")]":
        token, tokens = tokens[0], tokens[1:]
        if token == "|":
            pattern += "|"
        elif token in "([":
            inner, tokens = _alternatives(tokens)
            if not tokens:
                raise UserError(f"a phrase has a bracket {token!r} that is not closed")
            tokens = tokens[1:]
            pattern += f"(?:{inner}){'?' if token == '[' else ''}"
        elif token.startswith("{"):
            pattern += rf"\s+(?P<{token[1:-1]}>.+?)"
        else:
            pattern += rf"\s+{re.escape(token)}"
    return pattern, tokens
