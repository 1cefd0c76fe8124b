"""Reads on in a result that was too long to be shown whole."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from pydantic import Field

from microturn.tools import ToolContext, tool
from microturn.tools.artifacts import Artifacts

PIECE_BYTES = 8_000
"""Read at once; the result with its heading fits in the usual limit. Our choice."""


@tool(max_result_bytes=16_384)
async def read_artifact(
    context: ToolContext, artifact: str, start_byte: Annotated[int, Field(ge=0)] = 0
) -> str:
    """Read on in a result that was shortened.

    Args:
        artifact: Its name, as the shortened result gives it.
        start_byte: Where to begin.
    """
    kept = Artifacts.of(context.data_dir)
    piece, total = await anyio.to_thread.run_sync(kept.read, artifact, start_byte, PIECE_BYTES)
    end = min(total, start_byte + len(piece.encode()))
    return f"Bytes {start_byte} to {end} of {total}{', the end' if end >= total else ''}:\n{piece}"
