"""A SQLite file in the user's data folder, opened for one short piece of work at a time.

Two processes may use one file at once: each piece of work is one transaction that takes the write lock at its
start and waits for another's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

from microturn.tools import ToolFailed

T = TypeVar("T")

_LOCK_WAIT_S = 5.0


async def transact(path: Path, schema: str, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work` in a transaction on the file at `path`, in a thread; the file is made where it is missing.

    `schema` is one statement that does nothing the second time. A cancelled call leaves at once and the
    transaction ends by itself.

    Raises:
        ToolFailed: the file cannot be opened, is not a database, or stays locked for 5 seconds.
    """

    def run() -> T:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=_LOCK_WAIT_S, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(schema)
            result = work(connection)
            connection.execute("COMMIT")
            return result

    try:
        return await anyio.to_thread.run_sync(run, abandon_on_cancel=True)
    except (sqlite3.Error, OSError) as error:
        raise ToolFailed(
            f"the file {path.name} in the data folder cannot be used: {type(error).__name__}"
        ) from error
