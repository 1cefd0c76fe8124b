"""Which MCP servers there are: a JSON file in the form that other clients use, with an object `mcpServers`.

Knows nothing of how a server is reached.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic_core import from_json

from microturn.protocols import UserError

CONFIG_VARIABLE = "MICROTURN_MCP"
"""Environment variable with the path of the file; without it there are no servers."""
CALL_LIMIT_S = 20.0

_REFERENCE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")
_HTTP_TYPES = ("http", "streamable-http", "streamableHttp", "streamable_http")


class _Entry(BaseModel):
    """What every server may say of itself. Keys of other clients are left alone."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", frozen=True)

    timeout_s: float = Field(default=CALL_LIMIT_S, gt=0, le=3600)
    """Longest time that one call may take, in seconds."""
    tools: tuple[str, ...] | None = None
    """Names, as the server has them, of the tools that are wanted; without it all of them."""
    approval: dict[str, str] = Field(default_factory=dict)
    """For a tool, as the server names it: what the user is asked before each call, with parameters in braces."""


class StdioServer(_Entry):
    """A server that is started as a process of its own and spoken to over its standard input and output."""

    command: str = Field(min_length=1)
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    """Variables it gets besides a few harmless ones, such as PATH and HOME."""
    cwd: Path | None = None


def _is_web_address(url: str) -> str:
    if not re.match(r"https?://[^/\s]+", url):
        raise ValueError("it has to begin with http:// or https:// and name a host")
    return url


class HttpServer(_Entry):
    """A server that is reached by streamable HTTP."""

    url: Annotated[str, AfterValidator(_is_web_address)]
    headers: dict[str, str] = Field(default_factory=dict, repr=False)


ServerEntry: TypeAlias = StdioServer | HttpServer
"""One server of the file."""


@dataclass(frozen=True, slots=True)
class McpConfig:
    """The servers by name, and what is wrong with the entries that were left out."""

    servers: Mapping[str, ServerEntry] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def read_config(path: Path, environ: Mapping[str, str] = os.environ) -> McpConfig:
    """Read the file; `${NAME}` and `${NAME:-default}` stand for variables of the environment.

    An entry that makes no sense is left out and reported; one with `"disabled": true` is left out.

    Raises:
        UserError: the file cannot be read, or is not an object with `mcpServers`.
    """
    entries = _entries(path)
    servers: dict[str, ServerEntry] = {}
    problems: dict[str, str] = {}
    for name, entry in entries.items():
        if entry.get("disabled") is True or entry.get("enabled") is False:
            continue
        try:
            servers[name] = _read_entry(_expanded(entry, environ))
        except ValidationError as error:
            listed = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            problems[name] = f"its entry in {str(path)!r} is wrong: {listed}"
        except UserError as error:
            problems[name] = f"its entry in {str(path)!r} is wrong: {error}"
    return McpConfig(servers, problems)


def _entries(path: Path) -> dict[str, dict[str, JsonValue]]:
    try:
        content = from_json(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"cannot read {str(path)!r}, which {CONFIG_VARIABLE} names: {error.strerror}; correct the path or unset it"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{str(path)!r} is not JSON: {error}; correct it, or unset {CONFIG_VARIABLE}"
        ) from None
    try:
        return TypeAdapter(dict[str, dict[str, JsonValue]]).validate_python(content["mcpServers"])
    except (KeyError, TypeError, ValidationError):
        raise UserError(
            f'{str(path)!r} has to be an object like {{"mcpServers": {{"files": {{"command": "..."}}}}}}; correct it, '
            f"or unset {CONFIG_VARIABLE}"
        ) from None


def _read_entry(entry: dict[str, JsonValue]) -> ServerEntry:
    kind = entry.get("type", entry.get("transport"))
    if kind == "sse":
        raise UserError("the transport sse was given up by MCP; use the server's streamable HTTP address")
    if "command" in entry and kind in (None, "stdio"):
        return StdioServer.model_validate(entry)
    if "url" in entry and kind in (None, *_HTTP_TYPES):
        return HttpServer.model_validate(entry)
    raise UserError("it needs a `command` to start, or a `url` of type http")


def _expanded(entry: dict[str, JsonValue], environ: Mapping[str, str]) -> dict[str, JsonValue]:
    return {key: _expand(value, environ) for key, value in entry.items()}


def _expand(value: JsonValue, environ: Mapping[str, str]) -> JsonValue:
    """Put variables in, at any depth.

    Raises:
        UserError: a variable is not set and has no default.
    """
    if isinstance(value, list):
        return [_expand(each, environ) for each in value]
    if isinstance(value, dict):
        return {key: _expand(each, environ) for key, each in value.items()}
    if not isinstance(value, str):
        return value

    def variable(found: re.Match[str]) -> str:
        given = environ.get(found["name"], found["default"])
        if given is None:
            raise UserError(f"the environment variable {found['name']} is not set")
        return given

    return _REFERENCE.sub(variable, value)
