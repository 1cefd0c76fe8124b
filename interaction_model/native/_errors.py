"""Errors of the native model.

MicroturnError
└── UserError
    └── UnknownWordsError       words were handed in that the vocabulary does not have
"""

from __future__ import annotations

from microturn.protocols import UserError


class UnknownWordsError(UserError):
    """Words were handed in that the vocabulary does not have; the text says how many, never which."""

    def __init__(self, count: int, where: str) -> None:
        super().__init__(
            f"expected only words of the native model's vocabulary in {where}, got {count} others; "
            "see `microturn.interaction_model.native.vocabulary.WORDS`"
        )
        self.count = count
