"""microturn: an open runtime for voice assistants that never stop listening."""

from microturn._version import __version__ as __version__

__all__ = ("__version__",)
