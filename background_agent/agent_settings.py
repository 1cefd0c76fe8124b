"""The file that describes agents by name, at the path in MICROTURN_AGENTS:

    [agents.fast]
    model = "openai:qwen3-8b"           # or anthropic:NAME, google:NAME
    url = "http://127.0.0.1:8000/v1"    # left out for the provider's own address
    key_env = "FAST_KEY"                # the variable that holds the key
    engine = "loop"                     # or pydantic-ai, as without it where that is installed
    dialect = "json_actions"            # for a server without native tools; makes the engine a loop
    limits = { requests = 4, seconds = 20 }
    prices = { input_usd = 0.1, output_usd = 0.4 }    # for a million tokens

    [agents.offline]
    file = "/models/small.gguf"         # a local model instead

An agent `default` takes the place of the one that the environment describes. Knows nothing of engines.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from microturn.protocols import UserError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LimitsSection(_Section):
    """Where a run of this agent ends; see `RunLimits`."""

    requests: int | None = Field(None, ge=1)
    tool_calls: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, ge=1)
    seconds: float | None = Field(None, gt=0)
    cost_usd: float | None = Field(None, gt=0)


class PricesSection(_Section):
    """What a million tokens cost; see `TokenPrices`."""

    input_usd: float = Field(ge=0)
    output_usd: float = Field(ge=0)
    cached_usd: float | None = Field(None, ge=0)


class AgentSection(_Section):
    """One agent."""

    model: str | None = Field(None, pattern=r"^(openai|anthropic|google):\S+$")
    file: Path | None = None
    url: str | None = Field(None, pattern=r"^https?://")
    key_env: str | None = None
    engine: Literal["pydantic-ai", "loop"] | None = None
    dialect: Literal["native_tools", "json_actions"] = "native_tools"
    limits: LimitsSection = LimitsSection()
    prices: PricesSection | None = None

    @model_validator(mode="after")
    def _has_one_model(self) -> Self:
        if (self.model is None) == (self.file is None):
            raise ValueError("give either `model` or `file`")
        if self.file is not None and self.engine == "pydantic-ai":
            raise ValueError("a local `file` is served to the engine `loop` only")
        return self


class _File(_Section):
    agents: dict[str, AgentSection] = {}


def read_agents(path: Path) -> dict[str, AgentSection]:
    """The agents of a file by name.

    Raises:
        UserError: the file cannot be read, is no TOML, or says something that no agent has.
    """
    try:
        return _File.model_validate(tomllib.loads(path.read_text("utf-8"))).agents
    except OSError as error:
        raise UserError(
            f"cannot read the agents from MICROTURN_AGENTS={str(path)!r}: {error.strerror}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"the agents in {str(path)!r} are no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"the agents in {str(path)!r} are not right at {where!r}: {first['msg']}") from None
