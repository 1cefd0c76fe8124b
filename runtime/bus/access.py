"""What a tenant's user of a shared server may do: exactly what the bus needs, under the tenant's own keys.

Source of the commands: the scripts in this folder and the calls in this package; a test runs the bus with a user who
has these rights and no more. Knows nothing of connections.
"""

from __future__ import annotations

from microturn.runtime.bus.keys import checked_name

_CONNECTION = ("auth", "hello", "ping", "select")
_SERVER = ("info", "time", "command", "cluster|slots", "asking")
"""What a server is judged by before it is trusted, and by what a client finds its way in a cluster."""
_SCRIPTS = ("eval", "evalsha")
_STREAMS = (
    *(
        "xack",
        "xadd",
        "xclaim",
        "xdel",
        "xgroup|create",
        "xgroup|delconsumer",
        "xinfo|consumers",
        "xinfo|groups",
    ),
    *("xlen", "xpending", "xrange", "xrevrange", "xread", "xreadgroup"),
)
_KEYS = (
    *(
        "del",
        "exists",
        "get",
        "hdel",
        "hexists",
        "hget",
        "hincrby",
        "hmget",
        "hset",
        "hvals",
        "lrange",
        "lrem",
    ),
    *(
        "ltrim",
        "persist",
        "pexpire",
        "pttl",
        "rpush",
        "set",
        "type",
        "zadd",
        "zcard",
        "zrangebyscore",
        "zrem",
    ),
    *("zremrangebyscore", "zrevrangebyscore"),
)
COMMANDS = (*_CONNECTION, *_SERVER, *_SCRIPTS, *_STREAMS, *_KEYS)
"""All that is allowed."""


def access_rules(tenant: str) -> str:
    """The rules for `ACL SETUSER <name> on ><password> <rules>` on a Redis or Valkey server.

    They take away whatever the user had before. INFO, TIME and the scripts are not tied to keys: a user sees how many
    keys the server has and how busy it is, but none of another tenant's data.

    Raises:
        BusNameError: the tenant cannot be part of a key.
    """
    checked_name("tenant", tenant)
    commands = " ".join(f"+{name}" for name in COMMANDS)
    return f"resetkeys resetchannels -@all ~mt:{tenant}:* {commands}"
