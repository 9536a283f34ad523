"""What the parts of a configuration say of an argument that they cannot take."""

from __future__ import annotations

from typing import Any

from hoarfrost.checks import LARGEST_COUNT, check_path, check_switch, is_whole, shown
from hoarfrost.errors import InvalidArgumentError


def invalid(name: str, expected: str, value: Any) -> InvalidArgumentError:
    """The error that names an argument, what it must be and what it is."""
    return InvalidArgumentError(f"{name} must be {expected}, but it is {shown(value)}")


def check_least(name: str, value: Any, least: int) -> None:
    """Raise `InvalidArgumentError` unless `value` is an integer from `least` to 2**31 - 1."""
    if not is_whole(value, least):
        raise invalid(name, f"an integer of at least {least}", value)
    if value > LARGEST_COUNT:
        raise invalid(name, f"an integer of at most {LARGEST_COUNT}", value)


def check_disk(
    save_checkpoint_dir: Any, restore_checkpoint_path: Any, save_every_n_steps: Any, dump_state: Any
) -> None:
    """Raise `InvalidArgumentError` unless these arguments of a checkpointer fit together."""
    check_switch("dump_state", dump_state)
    for name, path in (
        ("save_checkpoint_dir", save_checkpoint_dir),
        ("restore_checkpoint_path", restore_checkpoint_path),
    ):
        if path is not None:
            check_path(name, path)
    if save_every_n_steps is not None:
        check_least("save_every_n_steps", save_every_n_steps, least=1)
    writing = {"save_every_n_steps": save_every_n_steps, "dump_state": dump_state or None}
    for name, value in writing.items():
        if value is not None and save_checkpoint_dir is None:
            raise InvalidArgumentError(
                f"{name} is {shown(value)}, but there is no save_checkpoint_dir to write into; give"
                " one, or leave it out"
            )
