"""Puts a question of the agent's back to the user, in the middle of a task."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from microturn.tools import ToolContext, tool

ANSWER_WITHIN_S = 30.0
"""How long an answer may take, the saying of the question included. Our choice: a task is given 120 s."""


@tool(max_result_bytes=2_048)
async def ask_user(
    context: ToolContext, question: Annotated[str, Field(min_length=1, max_length=300)]
) -> str:
    """Ask the user a question by voice and return their own words.

    Only for what the task cannot be done without and no tool can tell; never for something secret.

    Args:
        question: One short sentence, as it is to be said.
    """
    return await context.ask(question, timeout_s=ANSWER_WITHIN_S)
