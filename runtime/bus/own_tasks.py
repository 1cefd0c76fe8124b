"""The tasks that a port runs beside its caller's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def own_tasks() -> AsyncIterator[TaskGroup]:
    """A task group that is cancelled at the end of the block.

    An error of the block comes out as itself, not wrapped in a group, because the caller cannot know that there are
    tasks beside it.
    """
    try:
        async with anyio.create_task_group() as tasks:
            try:
                yield tasks
            finally:
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise
