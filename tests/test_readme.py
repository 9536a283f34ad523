"""Every command and snippet of the README, run."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]


def test_snippets_print_what_the_readme_shows() -> None:
    namespace: dict[str, object] = {}
    shown = [(kind, text) for kind, text in BLOCKS if kind in ("python", "text")]
    assert [kind for kind, _ in shown] == ["python", "text"] * (len(shown) // 2)
    for (_, code), (_, expected) in zip(shown[::2], shown[1::2], strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), namespace)
        assert printed.getvalue() == expected


def test_only_commands_that_are_tested_are_shown() -> None:
    known = ('pip install ".[demo,test]"', "python -m pytest", "python -m hoarfrost")
    assert COMMANDS
    assert [c for c in COMMANDS if not c.startswith(known)] == []
    # The two that can not run inside the tests are what CI does.
    script = (ROOT / ".ci" / "run").read_text()
    assert "pip install" in script
    assert "\npython -m pytest\n" in script


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python -m hoarfrost")])
def test_commands_run(command: str, tmp_path: Path) -> None:
    # Benchmark cases are cut down to the quickest: what is tested here is that the command works.
    quick = "--quick --case softmax-64x10" if "benchmark" in command else "--quick"
    words = shlex.split(command.split(" --")[0]) + shlex.split(quick)
    result = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
