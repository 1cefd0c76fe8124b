"""The time and the date, here and elsewhere.

The present is the moment at which the user's words ended, from the context package: the tools read no clock, so
that a replayed conversation gives the same answers.
"""

from __future__ import annotations

import functools
import re
import zoneinfo
from datetime import date, datetime, timedelta

from microturn.tools import Spoken, ToolContext, ToolFailed, ToolRetry, tool

_ZONES_OF_PLACES = {
    "abuja": "Africa/Lagos",
    "abu dhabi": "Asia/Dubai",
    "austin": "America/Chicago",
    "barcelona": "Europe/Madrid",
    "bangalore": "Asia/Kolkata",
    "beijing": "Asia/Shanghai",
    "bergen": "Europe/Oslo",
    "boston": "America/New_York",
    "cape town": "Africa/Johannesburg",
    "china": "Asia/Shanghai",
    "cologne": "Europe/Berlin",
    "dallas": "America/Chicago",
    "delhi": "Asia/Kolkata",
    "edinburgh": "Europe/London",
    "england": "Europe/London",
    "france": "Europe/Paris",
    "frankfurt": "Europe/Berlin",
    "geneva": "Europe/Zurich",
    "germany": "Europe/Berlin",
    "glasgow": "Europe/London",
    "gothenburg": "Europe/Stockholm",
    "greece": "Europe/Athens",
    "hamburg": "Europe/Berlin",
    "hanoi": "Asia/Bangkok",
    "houston": "America/Chicago",
    "india": "Asia/Kolkata",
    "italy": "Europe/Rome",
    "kyoto": "Asia/Tokyo",
    "las vegas": "America/Los_Angeles",
    "manchester": "Europe/London",
    "marseille": "Europe/Paris",
    "miami": "America/New_York",
    "milan": "Europe/Rome",
    "montreal": "America/Toronto",
    "mumbai": "Asia/Kolkata",
    "munich": "Europe/Berlin",
    "naples": "Europe/Rome",
    "new delhi": "Asia/Kolkata",
    "norway": "Europe/Oslo",
    "osaka": "Asia/Tokyo",
    "ottawa": "America/Toronto",
    "philadelphia": "America/New_York",
    "porto": "Europe/Lisbon",
    "rio de janeiro": "America/Sao_Paulo",
    "san diego": "America/Los_Angeles",
    "san francisco": "America/Los_Angeles",
    "seattle": "America/Los_Angeles",
    "south korea": "Asia/Seoul",
    "spain": "Europe/Madrid",
    "stavanger": "Europe/Oslo",
    "sweden": "Europe/Stockholm",
    "tel aviv": "Asia/Jerusalem",
    "tromso": "Europe/Oslo",
    "tromsø": "Europe/Oslo",
    "trondheim": "Europe/Oslo",
    "uk": "Europe/London",
    "venice": "Europe/Rome",
    "washington": "America/New_York",
}
"""Places that people name and that no zone is called after."""

_REGIONS = {
    "Africa",
    "America",
    "Antarctica",
    "Arctic",
    "Asia",
    "Atlantic",
    "Australia",
    "Europe",
    "Indian",
    "Pacific",
}


@functools.cache
def _zones() -> dict[str, str]:
    """Zone names by city and by full name, in lower case. Reads the zone database once."""
    names = sorted(zoneinfo.available_timezones())
    cities = {n.rsplit("/", 1)[1].replace("_", " ").lower(): n for n in names if n.split("/")[0] in _REGIONS}
    return {name.lower(): name for name in names} | cities | _ZONES_OF_PLACES


def zone_of(place: str) -> zoneinfo.ZoneInfo:
    """Return the time zone of a city, a country or an IANA name.

    Raises:
        ToolRetry: the place is not known.
    """
    plain = place.split(",")[0].strip().lower() if "/" not in place else place.strip().lower()
    name = _zones().get(plain.replace("_", " ")) or _zones().get(plain)
    if name is None:
        raise ToolRetry(
            "`place` is not known; give the nearest large city, or an IANA zone such as Europe/Oslo"
        )
    return zoneinfo.ZoneInfo(name)


@tool(
    timeout_s=5.0,
    phrases=[
        "what time is it [right] [now]",
        "what's the time [right] [now]",
        "what is the time [right] [now]",
        "(what time is it|what's the time|what is the time) in {place}",
        "(what day is it|what's the date|what is the date|what is today's date) [today]",
    ],
)
async def current_time(context: ToolContext, place: str = "") -> Spoken:
    """Tell the time and the date, where the user is or elsewhere.

    Args:
        place: A city such as Tokyo, or an IANA zone; leave it out for the user's own time.
    """
    here = _now(context)
    if not place.strip():
        return Spoken(
            text=f"{here:%A} {here.date()} {here:%H:%M} (UTC{here:%z})",
            say=f"It is {_spoken_time(here)} on {_spoken_date(here.date())}.",
        )
    there = here.astimezone(zone_of(place))
    name = place.strip() if "/" not in place else str(there.tzinfo).rsplit("/", 1)[-1].replace("_", " ")
    other_day = f" on {there:%A}" if there.date() != here.date() else ""
    return Spoken(
        text=f"{there:%A} {there.date()} {there:%H:%M} in {name} ({there.tzinfo}, UTC{there:%z})",
        say=f"It is {_spoken_time(there)}{other_day} in {name}.",
    )


@tool(timeout_s=5.0)
async def date_after(context: ToolContext, days: int = 0, weeks: int = 0, start: str = "") -> Spoken:
    """Find the date and the day of the week some days or weeks after, or before, a date.

    Args:
        days: Days to go forward; negative goes back.
        weeks: Weeks to go forward; negative goes back.
        start: ISO date such as 2026-12-24; leave it out for today.
    """
    try:
        found = _date(context, start, "start") + timedelta(days=days, weeks=weeks)
    except OverflowError:
        raise ToolRetry("that is beyond the calendar; give fewer days or weeks") from None
    return Spoken(text=f"{found:%A} {found}", say=f"That is {_spoken_date(found)}, {found.year}.")


@tool(timeout_s=5.0)
async def days_until(context: ToolContext, day: str, start: str = "") -> Spoken:
    """Count the days from today, or from another date, until a date.

    Args:
        day: ISO date such as 2026-12-24.
        start: ISO date to count from; leave it out for today.
    """
    end, begin = _date(context, day, "day"), _date(context, start, "start")
    days = (end - begin).days
    count = f"{abs(days)} day" if abs(days) == 1 else f"{abs(days)} days"
    direction = "after" if days >= 0 else "before"
    text = f"{end:%A} {end} is {count} {direction} {begin:%A} {begin}"
    if not start:
        say = f"{_spoken_date(end)} is today." if days == 0 else f"{_spoken_date(end)} is {count} away."
        say = say if days >= 0 else f"{_spoken_date(end)} was {count} ago."
    else:
        say = f"{_spoken_date(end)} is {count} {direction} {_spoken_date(begin)}."
    return Spoken(text=text, say=say)


def _now(context: ToolContext) -> datetime:
    try:
        now = datetime.fromisoformat(context.package.local_time)
    except ValueError:
        now = None
    if now is None or now.tzinfo is None:
        raise ToolFailed("the user's local time is not known: the context package has no time with an offset")
    return now


def _date(context: ToolContext, text: str, parameter: str) -> date:
    if not text.strip():
        return _now(context).date()
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise ToolRetry(f"`{parameter}` is not a date; write it like 2026-12-24") from None


def _spoken_time(moment: datetime) -> str:
    """Say the time as on a twelve-hour clock: "4:05 PM", "noon"."""
    if moment.minute == 0 and moment.hour in (0, 12):
        return "noon" if moment.hour else "midnight"
    hour = moment.hour % 12 or 12
    minutes = f":{moment.minute:02}" if moment.minute else ""
    return f"{hour}{minutes} {'PM' if moment.hour >= 12 else 'AM'}"


def _spoken_date(day: date) -> str:
    suffix = (
        "th" if re.fullmatch(r"1[123]", str(day.day)) else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    )
    return f"{day:%A}, {day:%B} {day.day}{suffix}"
