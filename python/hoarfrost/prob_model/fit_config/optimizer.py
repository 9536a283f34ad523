"""What minimises the loss, and which parameters it leaves alone."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import optax

from hoarfrost.freezing import Selector, is_selector
from hoarfrost.prob_model.fit_config.arguments import check_least, invalid
from hoarfrost.training.options import is_optimizer


@functools.cache
def _default_method() -> optax.GradientTransformation:
    """The default optimiser: one object, since compiled steps are kept for each optimiser."""
    return optax.adam(1e-3)


@dataclass(frozen=True)
class FitOptimizer:
    """What minimises the loss, for how long, and which parameters it leaves alone.

    Parameters
    ----------
    method : optax.GradientTransformation
        The optimiser; by default ``optax.adam(1e-3)``.
    n_epochs : int
        Number of passes over the training data.
    freeze_fun : callable (path, value) -> "trainable" or "frozen", optional
        Called with each leaf of the parameters and its path, a tuple such as
        ``("model", "params", "l3", "kernel")``; or any other form that `trainable` has in
        `hoarfrost.fit_laplace`. None: every parameter is trainable.

    Raises
    ------
    InvalidArgumentError
        If an argument has a type or a value that is not accepted.
    """

    method: optax.GradientTransformation = field(default_factory=_default_method)
    n_epochs: int = 100
    freeze_fun: Selector = None

    def __post_init__(self) -> None:
        if not is_optimizer(self.method):
            raise invalid("method", "an optax optimiser such as optax.adam(1e-3)", self.method)
        check_least("n_epochs", self.n_epochs, least=1)
        if not is_selector(self.freeze_fun):
            raise invalid(
                "freeze_fun",
                "a function (path, value) that returns 'trainable' or 'frozen', a compiled regular "
                "expression such as re.compile('head'), a list of names, or None",
                self.freeze_fun,
            )
