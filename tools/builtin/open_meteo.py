"""The present weather from Open-Meteo, which needs no key.

Source: the service's own documentation of its geocoding and forecast interfaces; weather codes are WMO table 4677
in the service's short form. Its data are licensed CC BY 4.0, so results name it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

import httpx
from pydantic import BaseModel, Field, ValidationError

from microturn.tools import ToolFailed, ToolRetry
from microturn.tools.builtin.weather_report import WeatherReport

_TIMEOUT_S = 10.0
_GEOCODING = "https://geocoding-api.open-meteo.com/v1/search"
_FORECAST = "https://api.open-meteo.com/v1/forecast"
_CONDITIONS = {
    0: "a clear sky",
    1: "a mostly clear sky",
    2: "some clouds",
    3: "an overcast sky",
    45: "fog",
    48: "freezing fog",
    51: "light drizzle",
    53: "drizzle",
    55: "heavy drizzle",
    56: "light freezing drizzle",
    57: "freezing drizzle",
    61: "light rain",
    63: "rain",
    65: "heavy rain",
    66: "light freezing rain",
    67: "freezing rain",
    71: "light snow",
    73: "snow",
    75: "heavy snow",
    77: "snow grains",
    80: "light showers",
    81: "showers",
    82: "violent showers",
    85: "light snow showers",
    86: "heavy snow showers",
    95: "a thunderstorm",
    96: "a thunderstorm and some hail",
    99: "a thunderstorm and heavy hail",
}


class _Place(BaseModel):
    name: str
    latitude: float
    longitude: float


class _Places(BaseModel):
    results: list[_Place] = Field(default_factory=list)


class _Current(BaseModel):
    temperature_2m: float
    apparent_temperature: float
    relative_humidity_2m: float
    weather_code: int
    wind_speed_10m: float


class _Daily(BaseModel):
    temperature_2m_max: list[float] = Field(min_length=1)
    temperature_2m_min: list[float] = Field(min_length=1)
    precipitation_probability_max: list[float | None] = Field(min_length=1)


class _Forecast(BaseModel):
    current: _Current
    daily: _Daily


M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class OpenMeteo:
    """A weather provider over HTTP; one connection a question."""

    HOSTS: ClassVar[tuple[str, ...]] = ("geocoding-api.open-meteo.com", "api.open-meteo.com")

    transport: httpx.AsyncBaseTransport | None = None
    """What carries the requests; None is the network."""

    async def weather(self, city: str) -> WeatherReport:
        """Look up the city, then its weather.

        Raises:
            ToolRetry: the city is not known.
            ToolFailed: the service does not answer, or not in the form that is known here.
        """
        async with httpx.AsyncClient(transport=self.transport, timeout=_TIMEOUT_S) as client:
            places = await _get(client, _GEOCODING, {"name": city, "count": "1", "language": "en"}, _Places)
            if not places.results:
                raise ToolRetry("`city` is not known to the weather service; give the nearest larger city")
            place = places.results[0]
            query = {
                "latitude": str(place.latitude),
                "longitude": str(place.longitude),
                "current": ",".join(_Current.model_fields),
                "daily": ",".join(_Daily.model_fields),
                "timezone": "auto",
                "forecast_days": "1",
            }
            return _report(place, await _get(client, _FORECAST, query, _Forecast))


async def _get(client: httpx.AsyncClient, url: str, query: dict[str, str], model: type[M]) -> M:
    try:
        response = await client.get(url, params=query)
        response.raise_for_status()
        return model.model_validate_json(response.content)
    except httpx.HTTPStatusError as error:
        raise ToolFailed(f"the weather service answers with status {error.response.status_code}") from None
    except httpx.HTTPError as error:
        raise ToolFailed(f"the weather service cannot be reached ({type(error).__name__})") from None
    except ValidationError:
        raise ToolFailed("the weather service answers in a form that is not known here") from None


def _report(place: _Place, forecast: _Forecast) -> WeatherReport:
    now, today = forecast.current, forecast.daily
    return WeatherReport(
        place=place.name,
        temperature_c=now.temperature_2m,
        feels_like_c=now.apparent_temperature,
        condition=_CONDITIONS.get(now.weather_code, "weather of a kind that is not known here"),
        humidity_percent=round(now.relative_humidity_2m),
        wind_kmh=now.wind_speed_10m,
        low_c=today.temperature_2m_min[0],
        high_c=today.temperature_2m_max[0],
        rain_chance_percent=round(today.precipitation_probability_max[0] or 0),
        source="Weather data by Open-Meteo.com (CC BY 4.0)",
        is_sample=False,
    )
