"""Where the options tables are imported from; a conftest.py here would stand for that of tests."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent

# Behind everything else: only what is found nowhere else is looked for there.
sys.path += [str(HERE.parent / "options"), str(HERE), str(HERE.parent)]
