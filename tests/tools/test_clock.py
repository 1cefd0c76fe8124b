"""Time and dates, counted from the moment at which the user stopped speaking."""

from __future__ import annotations

from dataclasses import replace

import pytest

from microturn.tools import Spoken, ToolContext, ToolFailed, ToolRetry
from microturn.tools.builtin.clock import current_time, date_after, days_until

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


def at(context: ToolContext, local_time: str) -> ToolContext:
    return replace(context, package=context.package.model_copy(update={"local_time": local_time}))


async def test_the_users_own_time_needs_no_place(context: ToolContext) -> None:
    assert await current_time(context) == Spoken(
        text="Monday 2026-05-04 16:45 (UTC+0200)", say="It is 4:45 PM on Monday, May 4th."
    )


@pytest.mark.parametrize(
    ("local_time", "say"),
    [
        ("2026-05-01T00:00:00+02:00", "It is midnight on Friday, May 1st."),
        ("2026-05-02T12:00:59+02:00", "It is noon on Saturday, May 2nd."),
        ("2026-05-03T12:05:00+02:00", "It is 12:05 PM on Sunday, May 3rd."),
        ("2026-05-12T09:00:00+02:00", "It is 9 AM on Tuesday, May 12th."),
        ("2026-05-22T00:07:00+02:00", "It is 12:07 AM on Friday, May 22nd."),
    ],
)
async def test_times_and_dates_are_said_as_people_say_them(
    local_time: str, say: str, context: ToolContext
) -> None:
    assert (await current_time(at(context, local_time))).say == say


@pytest.mark.parametrize(
    ("place", "say"),
    [
        ("Tokyo", "It is 11:45 PM in Tokyo."),
        ("new york", "It is 10:45 AM in new york."),
        ("America/New_York", "It is 10:45 AM in New York."),
        ("Bergen", "It is 4:45 PM in Bergen."),
        ("Paris, France", "It is 4:45 PM in Paris, France."),
        ("Auckland", "It is 2:45 AM on Tuesday in Auckland."),
        ("UTC", "It is 2:45 PM in UTC."),
    ],
)
async def test_the_time_elsewhere_is_found_by_city_or_zone(
    place: str, say: str, context: ToolContext
) -> None:
    assert (await current_time(context, place)).say == say


@pytest.mark.parametrize("place", ["Atlantis", "../../etc/passwd", "/etc/passwd", "Europe"])
async def test_an_unknown_place_is_refused(place: str, context: ToolContext) -> None:
    with pytest.raises(ToolRetry, match="`place`"):
        await current_time(context, place)


@pytest.mark.parametrize("local_time", ["", "soon", "2026-05-04T16:45:00"])
async def test_without_a_known_local_time_nothing_is_guessed(local_time: str, context: ToolContext) -> None:
    with pytest.raises(ToolFailed, match="local time"):
        await current_time(at(context, local_time))


async def test_dates_are_counted_from_today_or_from_a_given_day(context: ToolContext) -> None:
    assert (await date_after(context, days=100)).text == "Wednesday 2026-08-12"
    assert (
        await date_after(context, weeks=-1, start="2024-03-07")
    ).say == "That is Thursday, February 29th, 2024."
    assert (await days_until(context, "2026-12-24")).say == "Thursday, December 24th is 234 days away."
    assert (await days_until(context, "2026-05-04")).say == "Monday, May 4th is today."
    assert (await days_until(context, "2026-05-03")).say == "Sunday, May 3rd was 1 day ago."
    assert (await days_until(context, "2026-01-01", start="2025-12-25")).text.startswith(
        "Thursday 2026-01-01 is 7 days"
    )


async def test_impossible_dates_are_refused(context: ToolContext) -> None:
    with pytest.raises(ToolRetry, match="`day`"):
        await days_until(context, "next Friday")
    with pytest.raises(ToolRetry, match="calendar"):
        await date_after(context, days=10**7)
