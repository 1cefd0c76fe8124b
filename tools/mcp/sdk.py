"""The one place that imports the MCP SDK, which the extra `mcp` brings.

Raises:
    UnavailableError: on import, where the extra is not installed.
"""

from __future__ import annotations

import logging

from microturn.protocols import UnavailableError

try:
    import httpx2
    import mcp_types as types
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # because it has no types
    from jsonschema.exceptions import SchemaError, ValidationError  # type: ignore[import-untyped]  # the same
    from jsonschema.validators import extend  # type: ignore[import-untyped]  # the same
    from mcp.client.client import Client
    from mcp.client.session import MessageHandlerFnT
    from mcp.client.stdio import get_default_environment
    from mcp.client.streamable_http import streamable_http_client
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp.server.stdio import stdio_server
    from mcp.shared._httpx_utils import create_mcp_http_client
    from mcp.shared.exceptions import MCPError
    from mcp.shared.message import SessionMessage
    from referencing import Registry
    from referencing.exceptions import Unresolvable
except ImportError as error:
    raise UnavailableError(
        "MCP servers need the package mcp, which is not installed; run: pip install 'microturn[mcp]'"
    ) from error

# The SDK logs messages that it cannot read together with what is in them, which may be what a user said.
logging.getLogger("mcp").setLevel(logging.CRITICAL)

__all__ = (
    "Client",
    "Draft202012Validator",
    "MCPError",
    "MessageHandlerFnT",
    "Registry",
    "SchemaError",
    "Server",
    "ServerRequestContext",
    "SessionMessage",
    "Unresolvable",
    "ValidationError",
    "create_mcp_http_client",
    "extend",
    "get_default_environment",
    "httpx2",
    "stdio_server",
    "streamable_http_client",
    "types",
)
