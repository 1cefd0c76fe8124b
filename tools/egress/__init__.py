"""The way out: which addresses and hosts a tool may reach, and the one guard that keeps it to them.

`guarded_client` and `limited_body` are what a tool uses. Knows nothing of pages, models or how a tool is run.
"""

from microturn.tools.egress.body import limited_body as limited_body
from microturn.tools.egress.client import guarded_client as guarded_client

__all__ = ("guarded_client", "limited_body")
