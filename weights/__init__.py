"""Pinned weight files: which bytes, under which licence, from where.

Knows nothing of what is done with them: it gives the path of a file whose SHA-256 is right, or says how to get it.
"""

from microturn.weights._errors import UnknownWeightError as UnknownWeightError
from microturn.weights._errors import WeightCorruptError as WeightCorruptError
from microturn.weights._errors import WeightError as WeightError
from microturn.weights._errors import WeightMissingError as WeightMissingError
from microturn.weights._errors import WeightSourceError as WeightSourceError
from microturn.weights._errors import WeightVersionError as WeightVersionError
from microturn.weights.catalogue import WEIGHTS as WEIGHTS
from microturn.weights.store import cache_directory as cache_directory
from microturn.weights.store import fetch as fetch
from microturn.weights.store import locate as locate
from microturn.weights.weight_file import HubFile as HubFile
from microturn.weights.weight_file import InstalledFile as InstalledFile
from microturn.weights.weight_file import Progress as Progress
from microturn.weights.weight_file import ProgressCallback as ProgressCallback
from microturn.weights.weight_file import WeightFile as WeightFile
from microturn.weights.weight_file import WheelMember as WheelMember
from microturn.weights.weight_file import WheelParts as WheelParts

__all__ = (
    "WEIGHTS",
    "HubFile",
    "InstalledFile",
    "Progress",
    "ProgressCallback",
    "UnknownWeightError",
    "WeightCorruptError",
    "WeightError",
    "WeightFile",
    "WeightMissingError",
    "WeightSourceError",
    "WeightVersionError",
    "WheelMember",
    "WheelParts",
    "cache_directory",
    "fetch",
    "locate",
)
