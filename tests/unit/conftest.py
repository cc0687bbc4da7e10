"""Makes what several test modules share importable (`perf_worlds`)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
