"""The cascade: ears, a judge of whose turn it is, a router of intents and a voice, each a small streaming part.

Knows nothing of sockets, Redis or the background agent, and the parts know nothing of one another: what they are
given is sound, text and sample positions.
"""

from microturn.interaction_model.cascade.loader import load_cascade as load_cascade

__all__ = ("load_cascade",)
