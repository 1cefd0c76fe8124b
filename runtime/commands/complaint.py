"""How a command tells its user what went wrong."""

from __future__ import annotations

from rich.console import Console


def complain(text: str) -> None:
    """Show a sentence on standard error, unbroken, so that a command in it can be copied."""
    console = Console(stderr=True)
    console.print(f"microturn: {text}", style="red", markup=False, highlight=False, soft_wrap=True)
