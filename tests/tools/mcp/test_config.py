"""The configuration file, in the form that other clients use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from microturn.protocols import UserError
from microturn.tools.mcp import HttpServer, McpServers, StdioServer, read_config

pytestmark = pytest.mark.unit


def written(folder: Path, content: object) -> Path:
    path = folder / "mcp.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_servers_of_both_kinds_are_read_and_variables_put_in(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {
            "mcpServers": {
                "files": {"command": "serve", "args": ["${ROOT}/a", "${NONE:-b}"], "env": {"K": "${KEY}"}},
                "web": {
                    "type": "streamable-http",
                    "url": "https://x.example/mcp",
                    "headers": {"A": "B ${KEY}"},
                },
                "off": {"command": "x", "disabled": True},
            }
        },
    )

    config = read_config(path, {"ROOT": "/r", "KEY": "k"})

    files, web = config.servers["files"], config.servers["web"]
    assert isinstance(files, StdioServer) and isinstance(web, HttpServer)
    assert (files.args, files.env) == (("/r/a", "b"), {"K": "k"})
    assert web.headers == {"A": "B k"} and "B k" not in repr(web)
    assert set(config.servers) == {"files", "web"} and config.problems == {}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"type": "sse", "url": "http://x"}, "streamable HTTP"),
        ({}, "`command`"),
        ({"url": "ftp://x"}, "http://"),
        ({"command": "x", "timeout_s": -1}, "timeout_s"),
        ({"command": "${UNSET}"}, "UNSET is not set"),
    ],
)
def test_an_entry_that_makes_no_sense_is_reported_and_the_others_are_kept(
    entry: dict[str, object], said: str, tmp_path: Path
) -> None:
    config = read_config(written(tmp_path, {"mcpServers": {"odd": entry, "good": {"command": "x"}}}), {})

    assert set(config.servers) == {"good"}
    assert said in config.problems["odd"]


@pytest.mark.parametrize("content", ["{", "[]", {"servers": {}}, {"mcpServers": {"a": 1}}])
def test_a_file_that_is_no_configuration_is_an_error_that_names_it(content: object, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mcp\.json"):
        read_config(written(tmp_path, content))


def test_the_environment_names_the_file_and_without_it_there_are_no_servers(tmp_path: Path) -> None:
    assert McpServers.from_environment({}).problems == {}
    with pytest.raises(UserError, match="MICROTURN_MCP"):
        McpServers.from_environment({"MICROTURN_MCP": str(tmp_path / "none.json")})
