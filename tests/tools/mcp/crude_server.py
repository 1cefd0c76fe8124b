"""An MCP server in plain Python that misbehaves as its first argument says, for the tests."""

from __future__ import annotations

import json
import sys
import time

HOW = sys.argv[1]
NAMES = {"names": ["get-Item", "get_item", "9 lives", "x" * 90]}.get(HOW, ["only"])
SCHEMA: dict[str, object] = {"type": "object", "properties": {}}
if HOW == "bad-schema":
    SCHEMA = {"type": "object", "properties": {"a": {"type": "no such type"}}}
if HOW == "list-schema":
    SCHEMA = {"type": "array"}
if HOW == "huge-schema":
    SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "description": "x" * 40_000}}}
DECLARED: dict[str, object] = {}
STRUCTURED: dict[str, object] = {}
if HOW == "hostile-pattern":  # comparing takes 2 to the power of 60 steps
    DECLARED = {"outputSchema": {"type": "object", "properties": {"a": {"pattern": "^(a|a)*$"}}}}
    STRUCTURED = {"structuredContent": {"a": "a" * 60 + "!"}}


def say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(request: dict[str, object]) -> None:
    known: dict[object, dict[str, object]] = {
        "initialize": {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "crude", "version": "1"},
        },
        "tools/list": {
            "tools": [
                {"name": n, "description": "A\u202e tool.\u0007", "inputSchema": SCHEMA, **DECLARED}
                for n in NAMES
            ]
        },
        "tools/call": {"content": [{"type": "text", "text": "done"}], **STRUCTURED},
    }
    if request["method"] in known:
        say({"id": request["id"], "result": known[request["method"]]})
    else:
        say({"id": request["id"], "error": {"code": -32601, "message": "no such method"}})


if HOW == "exits":
    sys.exit("the shelf key is missing")
if HOW == "stubborn":  # ignores the end of its input
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    if HOW == "silent":
        time.sleep(60)
    if HOW == "prints":
        sys.stdout.write("hello, I am a server and I print\n")
    if HOW == "garbage" and request["method"] == "tools/call":
        sys.stdout.write("x" * 9_000_000)
        sys.stdout.flush()
        time.sleep(60)
    if HOW == "chatty" and request["method"] == "tools/call":
        token = request["params"]["_meta"]["progressToken"]
        for step in range(2000):
            told = {"progressToken": token, "progress": step, "message": f"Step {step}."}
            say({"method": "notifications/progress", "params": told})
    answer(request)
if HOW == "stubborn":
    time.sleep(60)
