"""Makes the modules beside the benchmark scripts importable by the tests, as they are for the scripts."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
