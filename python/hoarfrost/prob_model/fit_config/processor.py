"""Where and how training runs."""

from __future__ import annotations

from dataclasses import dataclass

from hoarfrost.checks import check_switch
from hoarfrost.devices import check_device_count


@dataclass(frozen=True)
class FitProcessor:
    """Where and how training runs.

    Parameters
    ----------
    devices : int
        -1 for all local devices that JAX finds, 0 for the CPU, n for the first n of them. Several
        share the points of each batch, with the parameters on each, where callbacks see them; what
        training leaves lies on the first. How many there are is looked up when the work starts.
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
        check_device_count("devices", self.devices)
        check_switch("disable_jit", self.disable_jit)
