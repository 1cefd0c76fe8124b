"""The tools that come with microturn, offered through the entry point group `microturn.tools`."""

from microturn.tools import AnyTool

TOOLS: tuple[AnyTool, ...] = ()

__all__ = ("TOOLS",)
