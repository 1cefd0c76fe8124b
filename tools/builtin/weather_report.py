"""The weather of one place, as text and as a sentence. Knows nothing of where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WeatherReport:
    """What a provider knows of a place's weather now and today."""

    place: str
    temperature_c: float
    feels_like_c: float
    condition: str
    """A noun phrase in lower case that can follow "with", such as "light rain"."""
    humidity_percent: int
    wind_kmh: float
    low_c: float
    high_c: float
    rain_chance_percent: int
    source: str = "sample data"
    is_sample: bool = True
    """Whether it is made up for trying things out."""

    def written(self) -> str:
        """Return everything, for a model and the screen."""
        origin = (
            "Sample data that comes with microturn, not the real weather" if self.is_sample else self.source
        )
        return (
            f"{self.place}: {self.condition}, {self.temperature_c:g} °C (feels like {self.feels_like_c:g} °C), "
            f"wind {self.wind_kmh:g} km/h, humidity {self.humidity_percent} %. "
            f"Today {self.low_c:g} to {self.high_c:g} °C, chance of rain {self.rain_chance_percent} %.\n"
            f"Source: {origin}."
        )

    def spoken(self) -> str:
        """Return one sentence with what people ask for first; it says so where the data are a sample."""
        opening = "In the sample data, it" if self.is_sample else "It"
        return f"{opening} is {_degrees(self.temperature_c)} in {self.place}, with {self.condition}."


def _degrees(value_c: float) -> str:
    whole = round(value_c)
    sign = "minus " if whole < 0 else ""
    return f"{sign}{abs(whole)} {'degree' if abs(whole) == 1 else 'degrees'}"
