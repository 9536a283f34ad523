"""The rules of the house that import-linter cannot see."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hoarfrost

ROOT = Path(hoarfrost.__file__).parent
FILES = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}


def imported(file: str) -> Iterator[str]:
    """Full names of everything that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(FILES[file].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES)
def test_only_the_structures_know_the_core(file: str) -> None:
    allowed = file.startswith(("laplace/structure/", "benchmark/")) or file == "__init__.py"
    names = [name for name in imported(file) if name.startswith("hoarfrost._core")]
    assert allowed or not names


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("laplace/")])
def test_nothing_below_the_posterior_knows_its_class(file: str) -> None:
    if file in {f"laplace/{name}.py" for name in ("fit", "loading", "posterior", "__init__")}:
        return
    assert not any(name.endswith(".Laplace") for name in imported(file))
    assert ".posterior" not in " ".join(imported(file))


@pytest.mark.parametrize("file", FILES)
def test_one_file_names_shardings(file: str) -> None:
    named = [name for name in imported(file) if name.startswith("jax.sharding")]
    written = "jax.sharding." in FILES[file].read_text(encoding="utf-8")
    assert (file == "devices.py") == bool(named or written)


@pytest.mark.parametrize("file", [file for file in FILES if file != "__init__.py"])
def test_nothing_is_imported_for_its_type_alone(file: str) -> None:
    assert "TYPE_CHECKING" not in FILES[file].read_text(encoding="utf-8")
