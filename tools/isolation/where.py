"""Where an error was raised, for logs: the line alone, as the message may hold what a user said."""

from __future__ import annotations

import re
import traceback

_PLACE = re.compile(r"[\w./<>@+-]{1,300}:\d{1,6}")


def where_raised(error: BaseException) -> str:
    """Name the line that raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


def checked_place(place: object) -> str:
    """A place that came from a child process, if it looks like one."""
    return place if isinstance(place, str) and _PLACE.fullmatch(place) else "an unknown place"
