"""Where and how training runs."""

from __future__ import annotations

from dataclasses import dataclass

from hoarfrost.checks import check_switch, is_whole
from hoarfrost.prob_model.fit_config.arguments import invalid


@dataclass(frozen=True)
class FitProcessor:
    """Where and how training runs.

    Parameters
    ----------
    devices : {-1, 0}
        -1 for the accelerators that JAX finds, 0 for the CPU.
    disable_jit : bool
        Whether to run without compilation, to look for an error step by step.

    Raises
    ------
    InvalidArgumentError
        If an argument has a type or a value that is not accepted.
    """

    devices: int = -1
    disable_jit: bool = False

    def __post_init__(self) -> None:
        if not is_whole(self.devices, -1) or self.devices > 0:
            raise invalid("devices", "-1 (what JAX finds) or 0 (the CPU)", self.devices)
        check_switch("disable_jit", self.disable_jit)
