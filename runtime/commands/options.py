"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from microturn.runtime.interaction_models import DEFAULT_MODEL, MODELS

RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis",
        envvar="MICROTURN_REDIS_URL",
        help="Redis 7 or Valkey 7.2 by URL: redis://, rediss://, unix://, redis+cluster://HOST:PORT,HOST:PORT or "
        "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE; built in without.",
    ),
]
Tenant = Annotated[
    str,
    typer.Option(envvar="MICROTURN_TENANT", help="Whose part of the server it is; tenants never meet."),
]
Shards = Annotated[
    int,
    typer.Option(
        envvar="MICROTURN_SHARDS",
        min=1,
        max=99,
        help="Over how many hash slots sessions are spread; the same in every process of a bus.",
    ),
]
ModelUrl = Annotated[
    str | None,
    typer.Option(
        "--model-url", envvar="MICROTURN_MODEL_URL", help="OpenAI-compatible endpoint that reasons."
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", envvar="MICROTURN_MODEL", help="Name of the reasoning model."),
]
ModelNames = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="`native` or `cascade` (as without it): what hears and speaks. Any other name is the reasoning model's, "
        "as is MICROTURN_MODEL. May be given for both.",
    ),
]
ModelWeights = Annotated[
    Path | None,
    typer.Option(
        "--weights", metavar="FOLDER", help="Weights of the native model in place of the shipped ones."
    ),
]
ModelKey = Annotated[
    str | None,
    typer.Option(
        "--model-key", envvar="MICROTURN_MODEL_KEY", help="Key of the endpoint.", show_default=False
    ),
]


def split_models(names: Sequence[str]) -> tuple[str, str | None]:
    """Tell the interaction model among names of models from the one that reasons: the default one, and none, if not named.

    Raises:
        typer.BadParameter: two of a kind are named.
    """
    present = [name for name in names if name in MODELS]
    reasoning = [name for name in names if name not in MODELS]
    for kind, named in (("interaction model", present), ("reasoning model", reasoning)):
        if len(named) > 1:
            raise typer.BadParameter(
                f"--model names more than one {kind}: {', '.join(named)}; name one of them"
            )
    return next(iter(present), DEFAULT_MODEL), next(iter(reasoning), None)


def choose_model_by(url: str | None, model: str | None, key: str | None) -> None:
    """Put the choice of model where the worker looks for it; a key is never an argument that others can read."""
    named = {"MICROTURN_MODEL_URL": url, "MICROTURN_MODEL": model, "MICROTURN_MODEL_KEY": key}
    os.environ.update({name: value for name, value in named.items() if value is not None})
