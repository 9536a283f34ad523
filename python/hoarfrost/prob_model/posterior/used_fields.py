"""Which settings a method takes, and what is said about the others."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.prob_model.fit_config import FitConfig, FitHyperparameters, FitMonitor
from hoarfrost.prob_model.posterior.start import has_source


def check_start(config: FitConfig, map_fit_config: FitConfig | None, method: str) -> None:
    """Raise `InvalidArgumentError` where there are no trained parameters to start from.

    Parameters
    ----------
    config : FitConfig
        Of the posterior.
    map_fit_config : FitConfig or None
        Of the MAP training before it.
    method : str
        What needs them.
    """
    if map_fit_config is None and not has_source(config):
        raise InvalidArgumentError(
            f"map_fit_config is None, but {method} needs trained parameters to "
            "start from; give map_fit_config=FitConfig(...) to train them first, or, where the "
            "model has a state, fit_config=FitConfig(checkpointer=FitCheckpointer("
            "start_from_current_state=True)), or restore_checkpoint_path= there"
        )


# Of a method whose steps are those of an optimiser.
OF_TRAINING = (
    *(f"monitor.{name}" for name in FitMonitor.__dataclass_fields__),
    "hyperparameters.max_grad_norm",
)


def check_used(
    config: FitConfig,
    map_fit_config: FitConfig | None,
    method: str,
    used: Sequence[str] = ("monitor.verbose",),
) -> None:
    """Warn about fields that are set to something else than their default and are not used.

    The optimiser's `method` and `n_epochs` are not among them: Fortuna's own example sets the
    latter beside `freeze_fun`. The status says where they were not used.

    Parameters
    ----------
    method : str
        Whose fit `config` describes.
    used : sequence of str
        Which fields of monitor and hyperparameters it uses.
    """
    parts = {"monitor": config.monitor, "hyperparameters": config.hyperparameters}
    defaults: dict[str, Any] = {"monitor": FitMonitor(), "hyperparameters": FitHyperparameters()}
    unused = [
        f"{part}.{name}"
        for part, given in parts.items()
        for name in defaults[part].__dataclass_fields__
        if f"{part}.{name}" not in used and getattr(given, name) != getattr(defaults[part], name)
    ]
    if config.callbacks:
        unused.append("callbacks")
    if config.checkpointer.save_every_n_steps is not None:
        unused.append("checkpointer.save_every_n_steps")
    before = None if has_source(config) else map_fit_config
    if before is not None and before.checkpointer.dump_state:
        warnings.warn(
            f"map_fit_config.checkpointer.dump_state has no effect: the state after the fit is "
            f"that of {method}; set it in fit_config",
            UserWarning,
            stacklevel=4,
        )
    if unused:
        warnings.warn(
            f"{method} does not use {', '.join('fit_config.' + name for name in unused)}; set "
            "this in map_fit_config, if it was meant for MAP training",
            UserWarning,
            stacklevel=4,
        )
