"""Weather behind a provider: fixed sample data offline, or Open-Meteo over the network.

`MICROTURN_WEATHER` chooses: `sample` (also without it) or `open-meteo`. Another provider is put in by
`registry.add(make_weather(provider), replace=True)`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Protocol

from pydantic import Field, TypeAdapter

from microturn.tools import Spoken, Tool, ToolFailed, ToolRetry, tool
from microturn.tools.builtin.open_meteo import OpenMeteo
from microturn.tools.builtin.weather_report import WeatherReport

PROVIDER_VARIABLE = "MICROTURN_WEATHER"


class WeatherProvider(Protocol):
    """Knows the weather of places."""

    async def weather(self, city: str) -> WeatherReport:
        """Return the present weather of a city.

        Raises:
            ToolRetry: the city is not known.
            ToolFailed: the service does not answer.
        """


class SampleWeather:
    """A dozen cities whose weather never changes; needs no network."""

    def __init__(self) -> None:
        data = (files("microturn.tools.builtin") / "sample_weather.json").read_bytes()
        reports = TypeAdapter(tuple[WeatherReport, ...]).validate_json(data)
        self._reports = {report.place.casefold(): report for report in reports}

    async def weather(self, city: str) -> WeatherReport:
        """Return the sample of a city."""
        report = self._reports.get(_plain(city))
        if report is None:
            known = ", ".join(sorted(report.place for report in self._reports.values()))
            raise ToolRetry(
                f"the offline sample data has no such `city`; it has {known}. "
                f"Real weather needs {PROVIDER_VARIABLE}=open-meteo"
            )
        return report


@dataclass(frozen=True, slots=True)
class ChosenWeather:
    """The provider that the environment names, looked up on each call."""

    providers: dict[str, WeatherProvider]

    async def weather(self, city: str) -> WeatherReport:
        """Ask the chosen provider."""
        name = os.environ.get(PROVIDER_VARIABLE, "").strip().lower() or "sample"
        if name not in self.providers:
            raise ToolFailed(
                f"{PROVIDER_VARIABLE} names no weather provider; use one of {', '.join(self.providers)}"
            )
        return await self.providers[name].weather(city)


_NOW = "[(today|right now|now|at the moment|outside)]"
_PHRASES = (
    f"(what's|what is|how's|how is) the weather [like] (in|for) {{city}} {_NOW}",
    f"(tell me|give me|check) the weather (in|for) {{city}} {_NOW}",
    f"what (is|are) the (temperature|conditions) in {{city}} {_NOW}",
    f"how (warm|cold|hot) is it in {{city}} {_NOW}",
    "weather [(in|for)] {city} (today|right now|now)",
    f"is it (raining|snowing|sunny|cold|warm|windy|hot|cloudy) in {{city}} {_NOW}",
)


def make_weather(provider: WeatherProvider, egress: tuple[str, ...] = ()) -> Tool[..., Spoken]:
    """Make the `weather` tool over a provider that reaches the hosts in `egress`."""

    @tool(timeout_s=15.0, egress=egress, spoken_filler="Let me check the weather.", phrases=_PHRASES)
    async def weather(city: Annotated[str, Field(min_length=1, max_length=100)]) -> Spoken:
        """Tell the present weather in a city and today's range.

        Args:
            city: The city, such as Oslo.
        """
        report = await provider.weather(city.strip())
        return Spoken(text=report.written(), say=report.spoken())

    return weather


def _plain(city: str) -> str:
    return " ".join(city.split(",")[0].casefold().removesuffix(" city").split())


weather = make_weather(
    ChosenWeather({"sample": SampleWeather(), "open-meteo": OpenMeteo()}), egress=OpenMeteo.HOSTS
)
