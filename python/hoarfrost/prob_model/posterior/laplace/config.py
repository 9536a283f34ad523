"""Which settings Laplace takes, and what is said about the others."""

from __future__ import annotations

import warnings

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.prob_model.fit_config import FitConfig, FitHyperparameters, FitMonitor
from hoarfrost.prob_model.posterior.start import has_source


def check_start(config: FitConfig, map_fit_config: FitConfig | None) -> tuple[str, ...]:
    """What is not used, as there is another start; `InvalidArgumentError` where there is none.

    Parameters
    ----------
    config : FitConfig
        Of the Laplace fit.
    map_fit_config : FitConfig or None
        Of the MAP training before it.
    """
    if map_fit_config is None and not has_source(config):
        raise InvalidArgumentError(
            "map_fit_config is None, but the Laplace approximation needs trained parameters to "
            "start from; give map_fit_config=FitConfig(...) to train them first, or, where the "
            "model has a state, fit_config=FitConfig(checkpointer=FitCheckpointer("
            "start_from_current_state=True)), or restore_checkpoint_path= there"
        )
    if map_fit_config is not None and has_source(config):
        return ("map_fit_config",)
    return ()


def check_laplace_config(config: FitConfig, map_fit_config: FitConfig | None) -> None:
    """Warn about fields that are set to something else than their default and are not used.

    The optimiser's `method` and `n_epochs` are not among them: Fortuna's own example sets the
    latter beside `freeze_fun`. The status says that they were not used.
    """
    monitor, default = config.monitor, FitMonitor()
    unused = [
        f"monitor.{name}"
        for name in default.__dataclass_fields__
        if name != "verbose" and getattr(monitor, name) != getattr(default, name)
    ]
    unused += [
        f"hyperparameters.{name}"
        for name in FitHyperparameters.__dataclass_fields__
        if getattr(config.hyperparameters, name) is not None
    ]
    if config.callbacks:
        unused.append("callbacks")
    if config.checkpointer.save_every_n_steps is not None:
        unused.append("checkpointer.save_every_n_steps")
    if map_fit_config is not None and map_fit_config.checkpointer.dump_state:
        warnings.warn(
            "map_fit_config.checkpointer.dump_state has no effect: the state after the fit is that "
            "of Laplace; set it in fit_config",
            UserWarning,
            stacklevel=4,
        )
    if unused:
        warnings.warn(
            f"the Laplace approximation has no training of its own and does not use "
            f"{', '.join('fit_config.' + name for name in unused)}; set this in map_fit_config",
            UserWarning,
            stacklevel=4,
        )
