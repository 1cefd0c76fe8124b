"""Runs tools outside the process: in warm child processes with limits, or in sandboxes of one call each.

Knows nothing of models or of how results travel. Import what is needed from the modules themselves: a child process
loads only its own part.
"""
