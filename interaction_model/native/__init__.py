"""The native model: one network that hears, sees, waits and speaks on the beat.

Knows tensors and micro-turns; nothing of sockets, the bus or how it was trained. Needs the extra `native`.
"""
