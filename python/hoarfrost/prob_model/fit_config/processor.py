"""Where and how training runs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hoarfrost.checks import check_switch, is_choice
from hoarfrost.devices import check_device_count
from hoarfrost.prob_model.fit_config.arguments import invalid


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
    cache_features : bool or "auto"
        Of a run whose `freeze_fun` leaves only the last layer trainable: whether the frozen layers
        run once, and training goes over their outputs, kept in memory (equal to rounding, and
        faster). "auto" does so where there are several epochs, no callbacks, data from arrays,
        layers that do the same in training as in evaluation (no dropout among the frozen ones), and
        where the outputs fit in a quarter of the free memory, and, of a run that goes on from a
        checkpoint that froze parameters too, where that one did; the status says what was done
        under "features". True takes any loader, of which the first pass counts, and raises where it
        cannot be done.

    Raises
    ------
    InvalidArgumentError
        If an argument has a type or a value that is not accepted.
    """

    devices: int = -1
    disable_jit: bool = False
    cache_features: bool | str = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        check_device_count("devices", self.devices)
        check_switch("disable_jit", self.disable_jit)
        if isinstance(self.cache_features, np.bool_):
            object.__setattr__(self, "cache_features", bool(self.cache_features))
        if not isinstance(self.cache_features, bool) and not is_choice(
            self.cache_features, ("auto",)
        ):
            raise invalid("cache_features", "'auto', True or False", self.cache_features)
