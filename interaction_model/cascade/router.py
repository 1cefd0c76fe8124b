"""Which of a list of intents a sentence belongs to, judged by examples.

Generic over the intents: what they are and how they are said comes in as a table. When no example is near enough,
or two intents are about equally near, the answer is the fallback. Knows nothing of what an intent leads to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pydantic

from microturn.interaction_model._errors import BadExemplarsError
from microturn.interaction_model.cascade.sentence_embedding import Embedding

NEAREST = 3
"""Examples of an intent whose closeness is averaged. All constants here were chosen by leaving one example out of
the default table at a time, on no phrasing of the tests."""
RIDGE = 10.0
"""Weight that keeps the linear part from following single examples."""
LEAST_CLOSENESS = 0.3
"""An intent with no example nearer than this is not believed."""
LEAST_MARGIN = 0.05
"""An intent less far ahead of the fallback than this is not believed."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_FILLER = re.compile(r"^(?:(?:um+|uh+|er+|erm|so|well|hey|oh|ah|please|and)\b[\s,.]*)+", re.IGNORECASE)


class Embedder(Protocol):
    """Turns a sentence into a direction of length 1."""

    def embed(self, sentence: str) -> Embedding:
        """Return the direction."""


class Exemplars(pydantic.BaseModel):
    """A table of intents with examples. Of several sentences, the one whose intent stands first in it decides."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    fallback: str
    """The intent of what is like nothing here."""
    intents: Mapping[str, Sequence[str]]
    """Examples of each intent, the most demanding intents first."""

    @classmethod
    def read(cls, path: Path | None = None) -> Exemplars:
        """Read a JSON file, by default the table of a voice assistant that stands beside this module.

        Raises:
            BadExemplarsError: the file is no such table.
        """
        path = path or Path(__file__).with_name("intents.json")
        try:
            return cls.model_validate_json(path.read_text("utf-8"))
        except (OSError, pydantic.ValidationError) as error:
            raise BadExemplarsError(
                f"could not read a table of intents from {path}: {type(error).__name__}"
            ) from error


@dataclass(frozen=True, slots=True)
class Route:
    """Where a text goes."""

    intent: str
    score: float
    """Closeness to the intent's examples plus the linear part's vote, about -1 to 2."""
    runner_up: str
    """The nearest other intent."""
    is_certain: bool = True
    """Whether the intent was near enough; false where the fallback stands in for doubt."""


class IntentRouter:
    """Routes texts by nearest examples; about 4 ms for each sentence of a text."""

    def __init__(self, embedder: Embedder, exemplars: Exemplars | None = None) -> None:
        """Embed all examples, about 2 s for the default table. Blocks.

        Raises:
            BadExemplarsError: the table has fewer than two intents, an intent without examples, or a fallback that
                is none of them.
        """
        table = exemplars or Exemplars.read()
        if len(table.intents) < 2 or table.fallback not in table.intents or not all(table.intents.values()):
            raise BadExemplarsError(
                f"cannot route by this table: expected two or more intents with examples and the fallback "
                f"{table.fallback!r} among them, got {sorted(table.intents)}"
            )
        self._embedder = embedder
        self.fallback = table.fallback
        self.intents: tuple[str, ...] = tuple(table.intents)
        """All intents, the most demanding first."""
        self._directions = [
            np.stack([embedder.embed(_bare(example)) for example in examples])
            for examples in table.intents.values()
        ]
        self._linear = _ridge(self._directions)

    def route(self, text: str) -> Route:
        """Return the intent of a text; of several sentences, the most demanding one's."""
        sentences = [sentence for sentence in _SENTENCE_END.split(text.strip()) if _bare(sentence)]
        if not sentences:
            return Route(self.fallback, 0.0, self.fallback, is_certain=False)
        routes = [self._route(sentence) for sentence in sentences]
        return min(routes, key=lambda route: (not route.is_certain, self.intents.index(route.intent)))

    def _route(self, sentence: str) -> Route:
        direction = self._embedder.embed(_bare(sentence))
        closeness = np.array([_closeness(known @ direction) for known in self._directions])
        scores = closeness + direction @ self._linear[:-1] + self._linear[-1]
        best, second = (int(i) for i in np.argsort(-scores, kind="stable")[:2])
        fallback = self.intents.index(self.fallback)
        is_near = bool(closeness[best] >= LEAST_CLOSENESS)
        if best == fallback:
            return Route(self.fallback, float(scores[best]), self.intents[second], is_near)
        if is_near and scores[best] - scores[fallback] >= LEAST_MARGIN:
            return Route(self.intents[best], float(scores[best]), self.intents[second])
        return Route(self.fallback, float(scores[fallback]), self.intents[best], is_certain=False)


def _closeness(similarities: Embedding) -> float:
    """Return how near the nearest examples are, the nearest counting most."""
    nearest = np.sort(similarities)[::-1][:NEAREST]
    weights = 0.5 ** np.arange(nearest.size)
    return float(nearest @ weights / weights.sum())


def _ridge(directions: Sequence[Embedding]) -> Embedding:
    """Return the weights of a linear vote for each intent, shape `(385, intents)`, the last row being the offset.

    Intents with many examples do not outweigh the others. Source: ridge regression on one-hot labels, solved in
    closed form so that the same examples always give the same weights.
    """
    examples = np.concatenate(directions).astype(np.float64)
    labels = np.repeat(np.arange(len(directions)), [len(known) for known in directions])
    inputs = np.hstack((examples, np.ones((len(examples), 1))))
    wanted = np.eye(len(directions))[labels]
    weights = 1 / np.sqrt(np.bincount(labels))[labels]
    weighted = inputs.T * (weights / weights.mean())
    solution = np.linalg.solve(weighted @ inputs + RIDGE * np.eye(inputs.shape[1]), weighted @ wanted)
    return np.asarray(solution, np.float32)


def _bare(sentence: str) -> str:
    """Return the sentence without what says nothing: hesitations before it, signs around it, capitals."""
    stripped = _FILLER.sub("", sentence.strip())
    return (stripped or sentence).strip(" .,!?;:\u2026-").lower()


class Replies:
    """Short replies for each intent, said in turn so that none comes twice running."""

    def __init__(self, table: Mapping[str, Sequence[str]] | None = None) -> None:
        """Take a table of replies by intent, by default the one beside this module."""
        if table is None:
            table = json.loads(Path(__file__).with_name("replies.json").read_text("utf-8"))
        self._table = table

    def choose(self, intent: str, number: int) -> str | None:
        """Return the reply to the `number`-th use of an intent; None where nothing is to be said."""
        replies = self._table.get(intent, ())
        return replies[number % len(replies)] if replies else None
