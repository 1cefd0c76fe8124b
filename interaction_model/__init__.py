"""Interaction models: what is present in every micro-turn, hears, speaks, waits and hands over.

One interface (`InteractionModel`) and the models behind it. Knows nothing of Redis, sockets or the background
agent: what it wants done leaves as actions, what came of it arrives as woven text.
"""

from microturn.interaction_model.interface import InteractionModel as InteractionModel
from microturn.interaction_model.interface import ModelSession as ModelSession
from microturn.interaction_model.interface import SessionConfig as SessionConfig

__all__ = ("InteractionModel", "ModelSession", "SessionConfig")
