"""Finds a module by its known place, where the folder around it cannot be listed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType


class KnownPlaces(MetaPathFinder):
    """Asked after all other finders, and only for modules of the first level."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    @classmethod
    def install(cls, places: Mapping[str, str]) -> None:
        """Have imports heed the places: of each name, the folder of the package or the file of the module."""
        sys.meta_path.append(cls(places))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Give the spec of a module whose place is known."""
        if path is not None or fullname not in self._places:
            return None
        place = Path(self._places[fullname])
        if place.suffix == ".py":
            return spec_from_file_location(fullname, place)
        return spec_from_file_location(
            fullname, place / "__init__.py", submodule_search_locations=[str(place)]
        )
