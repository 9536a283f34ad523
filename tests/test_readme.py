"""Every command and snippet of the README, run."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import BLOCKS, COMMANDS, ROOT, Run, module_of


def test_snippets_print_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # they write files
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
def test_commands_run(command: str, quick_run: Callable[[str], Run]) -> None:
    # What they print and write is looked at in a file for each.
    result = quick_run(module_of(command))
    assert result.code == 0, result.stderr
    assert result.stdout.strip()
