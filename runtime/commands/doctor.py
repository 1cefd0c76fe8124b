"""`microturn doctor`: what is installed, what is missing, and how to mend it."""

from __future__ import annotations

import anyio
import typer
from rich.console import Console

from microturn.runtime.commands.options import ModelUrl, RedisUrl
from microturn.runtime.doctor import examine, report


def doctor(redis: RedisUrl = None, model_url: ModelUrl = None) -> None:
    """Say what is installed, what is missing, and how to mend it."""
    findings = anyio.run(lambda: examine(redis_url=redis, model_url=model_url))
    raise typer.Exit(report(Console(), findings))
