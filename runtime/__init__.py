"""The runtime: beat, sessions, weaving, the way to the background, and the command line.

Knows nothing of what is inside a model or an agent.
"""
