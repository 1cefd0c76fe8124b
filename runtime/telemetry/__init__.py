"""Telemetry of the runtime and its workers: traces, metrics and logs by OpenTelemetry, and what is kept on this disk.

Needs the extra `microturn[telemetry]`; `setup` is the one module that opens it. Knows nothing of what was said.
"""
