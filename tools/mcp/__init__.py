"""MCP in both directions: tools of other servers become tools here, and ours are served to other clients.

Importing this package does not import the MCP SDK: that takes about a second, and happens when a server is named.
Knows nothing of models, agents or queues.
"""

from microturn.tools.mcp.config import CONFIG_VARIABLE as CONFIG_VARIABLE
from microturn.tools.mcp.config import HttpServer as HttpServer
from microturn.tools.mcp.config import McpConfig as McpConfig
from microturn.tools.mcp.config import ServerEntry as ServerEntry
from microturn.tools.mcp.config import StdioServer as StdioServer
from microturn.tools.mcp.config import read_config as read_config
from microturn.tools.mcp.offer import Offer as Offer
from microturn.tools.mcp.pins import Difference as Difference
from microturn.tools.mcp.pins import Pins as Pins
from microturn.tools.mcp.servers import McpServers as McpServers

__all__ = (
    "CONFIG_VARIABLE",
    "Difference",
    "HttpServer",
    "McpConfig",
    "McpServers",
    "Offer",
    "Pins",
    "ServerEntry",
    "StdioServer",
    "read_config",
)
