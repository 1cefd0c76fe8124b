"""What a model is able to do and how much it can take: chosen once per model, never asked for in the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from microturn.background_agent.chat_client import ChatLimits
from microturn.protocols import ToolSpec

DEFAULT_CONTEXT_TOKENS = 4096
"""Prompt and answer of the local model together. For 1.5 B parameters this takes about 115 MB."""


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """How one kind of model is spoken to."""

    dialect: Literal["json_actions", "native_tools"]
    """`json_actions`: one JSON object per step, held to a schema by the server. `native_tools`: `tools=`."""
    context_chars: int
    """Most of the conversation that is shown, about four characters to a token."""
    result_bytes: int
    """Most of one tool result that is shown."""
    answer_chars: int
    """Longest final text."""
    step_tokens: int
    """Most tokens of one answer of the model; its reasoning counts."""
    shows_examples: bool
    """Whether the fixed prefix has worked examples."""
    can_say: bool
    """Whether the model may say something and go on."""
    limits: ChatLimits
    withheld: frozenset[str] = frozenset()
    """Names of tools that the model is not offered, because it has no use for them and would have to read them."""

    def offered(self, specs: Sequence[ToolSpec]) -> list[ToolSpec]:
        """Those of the tools that the model is offered, in their order."""
        return [spec for spec in specs if spec.name not in self.withheld]


LOCAL: Final = ModelProfile(
    dialect="json_actions",
    context_chars=900,
    result_bytes=900,
    answer_chars=400,
    step_tokens=220,
    shows_examples=True,
    can_say=False,
    limits=ChatLimits(first_byte_s=90.0, silence_s=20.0),
    withheld=frozenset({"ask_user", "read_artifact", "run_python"}),
)
"""A small model on one core, which reads about 40 and writes about 18 tokens a second."""

REMOTE: Final = ModelProfile(
    dialect="native_tools",
    context_chars=24_000,
    result_bytes=12_000,
    answer_chars=4_000,
    step_tokens=4_000,
    shows_examples=False,
    can_say=True,
    limits=ChatLimits(first_byte_s=30.0),
)
"""A capable model behind an OpenAI-compatible address."""

REMOTE_JSON: Final = ModelProfile(
    dialect="json_actions",
    context_chars=8_000,
    result_bytes=6_000,
    answer_chars=2_000,
    step_tokens=800,
    shows_examples=True,
    can_say=True,
    limits=ChatLimits(first_byte_s=30.0),
)
"""A model whose server has schemas and no native tools."""
