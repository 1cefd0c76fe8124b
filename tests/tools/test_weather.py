"""Weather: the offline sample, the choice of provider, and Open-Meteo over a fake of its servers."""

from __future__ import annotations

import httpx
import pytest

from microturn.tools import ToolError, ToolFailed, ToolRetry
from microturn.tools.builtin import SampleWeather, WeatherReport, make_weather, weather
from microturn.tools.builtin.open_meteo import OpenMeteo
from microturn.tools.builtin.weather import PROVIDER_VARIABLE, ChosenWeather

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

PLACES = {
    "results": [{"name": "Tromsø", "latitude": 69.65, "longitude": 18.96, "country": "Norway", "admin1": "x"}]
}
FORECAST = {
    "current": {
        "time": "2026-01-02T12:00",
        "temperature_2m": -4.6,
        "apparent_temperature": -9.1,
        "relative_humidity_2m": 71,
        "weather_code": 73,
        "wind_speed_10m": 18.4,
    },
    "daily": {
        "temperature_2m_max": [-3.0],
        "temperature_2m_min": [-8.2],
        "precipitation_probability_max": [None],
    },
}


@pytest.mark.parametrize(
    "city",
    [
        "Oslo",
        "Bergen",
        "Paris",
        "London",
        "Tokyo",
        "New York",
        "Lisbon",
        "Rome",
        "  bergen ",
        "New York City",
    ],
)
async def test_the_sample_knows_the_usual_cities_and_says_what_it_is(
    city: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PROVIDER_VARIABLE, raising=False)

    result = await weather(city)

    assert "Sample data" in result.text and "sample" in result.say
    assert result.text.casefold().startswith(city.strip().casefold().removesuffix(" city"))


async def test_an_unknown_city_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ToolRetry, match=r"Bergen.*Tokyo.*open-meteo"):
        await SampleWeather().weather("Gotham")


class Service:
    """The two servers of Open-Meteo, as far as they are used."""

    def __init__(self, places: object = PLACES, forecast: object = FORECAST, status: int = 200) -> None:
        self.answers = {"/v1/search": places, "/v1/forecast": forecast}
        self.status = status
        self.urls: list[httpx.URL] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.urls.append(request.url)
        return httpx.Response(self.status, json=self.answers[request.url.path])

    def provider(self) -> OpenMeteo:
        return OpenMeteo(httpx.MockTransport(self.answer))


async def test_open_meteo_is_asked_for_the_place_and_then_for_its_weather() -> None:
    service = Service()

    report = await service.provider().weather("Tromsø")

    assert [url.host for url in service.urls] == list(OpenMeteo.HOSTS)
    assert service.urls[0].params["name"] == "Tromsø"
    assert (service.urls[1].params["latitude"], service.urls[1].params["longitude"]) == ("69.65", "18.96")
    assert "weather_code" in service.urls[1].params["current"].split(",")
    assert report == WeatherReport(
        place="Tromsø",
        temperature_c=-4.6,
        feels_like_c=-9.1,
        condition="snow",
        humidity_percent=71,
        wind_kmh=18.4,
        low_c=-8.2,
        high_c=-3.0,
        rain_chance_percent=0,
        source="Weather data by Open-Meteo.com (CC BY 4.0)",
        is_sample=False,
    )


async def test_real_weather_is_said_without_the_word_sample() -> None:
    result = await make_weather(Service().provider())("Tromsø")

    assert result.say == "It is minus 5 degrees in Tromsø, with snow."
    assert "Open-Meteo" in result.text and "ample" not in result.text


@pytest.mark.parametrize(
    ("service", "error", "text"),
    [
        (Service(places={"generationtime_ms": 0.5}), ToolRetry, "`city`"),
        (Service(status=503), ToolFailed, "503"),
        (Service(forecast={"current": {}}), ToolFailed, "form"),
        (Service(places=["odd"]), ToolFailed, "form"),
    ],
)
async def test_whatever_goes_wrong_is_explained(service: Service, error: type[ToolError], text: str) -> None:
    with pytest.raises(error, match=text):
        await service.provider().weather("Tromsø")


async def test_a_service_that_cannot_be_reached_is_a_failure() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("slow", request=request)

    with pytest.raises(ToolFailed, match="ConnectTimeout"):
        await OpenMeteo(httpx.MockTransport(refuse)).weather("Tromsø")


async def test_the_environment_chooses_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = ChosenWeather({"sample": SampleWeather(), "open-meteo": Service().provider()})

    monkeypatch.setenv(PROVIDER_VARIABLE, "Open-Meteo")
    assert not (await chosen.weather("Tromsø")).is_sample
    monkeypatch.setenv(PROVIDER_VARIABLE, "")
    assert (await chosen.weather("Oslo")).is_sample
    monkeypatch.setenv(PROVIDER_VARIABLE, "crystal-ball")
    with pytest.raises(ToolFailed, match="sample, open-meteo"):
        await chosen.weather("Oslo")
