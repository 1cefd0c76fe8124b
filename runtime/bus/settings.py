"""What a process must be told to take part in a bus. Knows nothing of connections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BusSettings:
    """Settings that the runtime and the workers of one bus share."""

    url: str
    """`redis://`, `rediss://` or `unix://`, as redis-py reads it."""
    tenant: str = "default"
    """Prefix of every key, so that a server's access rules can keep tenants apart."""
    shards: int = 1
    """Over how many hash slots the sessions are spread; the same number in every process of a bus."""
    lease_s: float = 2.0
    """Silence after which a worker is taken for dead and its tasks are given to others."""
    max_attempts: int = 3
    """Attempts after which a task is taken for poison."""
    queue_limit: int = 10_000
    """Tasks, waiting and running, per shard; one more is refused."""
    retention_s: float = 3600.0
    """How long the record of an ended task is kept, so that a repeated submit is still known."""
    session_retention_s: float = 24 * 3600.0
    """How long a session is remembered after its last sign of life, and with it what the user is still owed."""
    stored_events: int = 256
    """Newest events of a task that a second attempt is told of."""
    presence_s: float = 0.5
    """How often a worker shows that it lives. It counts as gone after three times that."""
    attachment_ttl_s: float = 120.0
    """How long a picture that was shown is kept: as long as a session's tasks have by default. Our choice."""
    command_timeout_s: float = 2.0
    """How long one command may take before it is repeated."""

    @property
    def lease_ms(self) -> int:
        """The lease in the server's unit."""
        return round(self.lease_s * 1000)

    @property
    def retention_ms(self) -> int:
        """The retention in the server's unit."""
        return round(self.retention_s * 1000)

    @property
    def session_retention_ms(self) -> int:
        """The retention of sessions in the server's unit."""
        return round(self.session_retention_s * 1000)

    @property
    def presence_ttl_ms(self) -> int:
        """Silence after which a worker is no longer counted."""
        return round(self.presence_s * 3000)
