"""The tools that come with microturn, offered through the entry point group `microturn.tools`."""

from microturn.tools import AnyTool
from microturn.tools.builtin.artifact import read_artifact as read_artifact
from microturn.tools.builtin.calculator import calculator as calculator
from microturn.tools.builtin.clock import current_time as current_time
from microturn.tools.builtin.clock import date_after as date_after
from microturn.tools.builtin.clock import days_until as days_until
from microturn.tools.builtin.documents import search_documents as search_documents
from microturn.tools.builtin.notes import add_note as add_note
from microturn.tools.builtin.notes import delete_note as delete_note
from microturn.tools.builtin.notes import list_notes as list_notes
from microturn.tools.builtin.notes import search_notes as search_notes
from microturn.tools.builtin.python_code import run_python as run_python
from microturn.tools.builtin.question import ask_user as ask_user
from microturn.tools.builtin.timers import cancel_timer as cancel_timer
from microturn.tools.builtin.timers import list_timers as list_timers
from microturn.tools.builtin.timers import set_timer as set_timer
from microturn.tools.builtin.units import convert_units as convert_units
from microturn.tools.builtin.weather import SampleWeather as SampleWeather
from microturn.tools.builtin.weather import WeatherProvider as WeatherProvider
from microturn.tools.builtin.weather import make_weather as make_weather
from microturn.tools.builtin.weather import weather as weather
from microturn.tools.builtin.weather_report import WeatherReport as WeatherReport
from microturn.tools.builtin.web_page import read_web_page as read_web_page
from microturn.tools.builtin.web_search import SampleSearch as SampleSearch
from microturn.tools.builtin.web_search import SearchHit as SearchHit
from microturn.tools.builtin.web_search import SearchProvider as SearchProvider
from microturn.tools.builtin.web_search import make_web_search as make_web_search
from microturn.tools.builtin.web_search import web_search as web_search

TOOLS: tuple[AnyTool, ...] = (
    calculator,
    current_time,
    date_after,
    days_until,
    set_timer,
    cancel_timer,
    list_timers,
    convert_units,
    weather,
    web_search,
    read_web_page,
    search_documents,
    add_note,
    list_notes,
    search_notes,
    delete_note,
    read_artifact,
    run_python,
    ask_user,
)
"""All of them, the ones that are wanted most often first."""

__all__ = (
    "TOOLS",
    "SampleSearch",
    "SampleWeather",
    "SearchHit",
    "SearchProvider",
    "WeatherProvider",
    "WeatherReport",
    "add_note",
    "ask_user",
    "calculator",
    "cancel_timer",
    "convert_units",
    "current_time",
    "date_after",
    "days_until",
    "delete_note",
    "list_notes",
    "list_timers",
    "make_weather",
    "make_web_search",
    "read_artifact",
    "read_web_page",
    "run_python",
    "search_documents",
    "search_notes",
    "set_timer",
    "weather",
    "web_search",
)
