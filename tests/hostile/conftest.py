"""Where the files of the campaign and the options tables are imported from."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "options"), str(HERE)]
