"""Every argument of the predictive distributions and likelihoods of Fortuna's models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from entries import (
    SECOND,
    Elsewhere,
    Entry,
    Inert,
    Later,
    Other,
    Refused,
    Subject,
    cases,
    check,
    methods,
    table,
)
from problems import CLASSES, CLASSES2, INPUTS, INPUTS2, NUMBERS, NUMBERS2, X, fitted, key

from hoarfrost.data import DataLoader
from hoarfrost.prob_model.likelihood import ClassificationLikelihood, RegressionLikelihood
from hoarfrost.prob_model.predictive import ClassificationPredictive, RegressionPredictive

# Training labels of one class alone.
ONE_CLASS = DataLoader.from_array_data((X, np.zeros(12, np.int32)), batch_size=6)
OF_PREDICTIVES: dict[str, Entry] = {
    **SECOND,
    "inputs_loader": Other(INPUTS2),
    "test_inputs_loader": Other(INPUTS2),
    "return_ess": Other(False),
    "n_posterior_samples": Other(5),
    "n_output_samples": Other(5),
    "n_target_samples": Other(5),
    "rng": Other(key(1)),
    "link": Other("nn"),
    "return_aux": Other(["outputs"]),
    "error": Other(0.5),
    "q": Other(0.2),
    "interval_type": Other("left-tailed"),
    "aleatoric_variances": Other(np.float32(7.0)),
    "epistemic_variances": Other(np.float32(7.0)),
    "variances": Other(np.full((12, 1), 7.0, np.float32)),
    "means": Other(np.eye(12, 3, dtype=np.float32)[:, ::-1]),
}
OF_LIKELIHOODS: dict[str, Entry] = {
    **SECOND,
    "inputs_loader": Other(INPUTS2),
    "q": Other(0.2),
    "n_target_samples": Other(5),
    "rng": Other(key(1)),
    "return_aux": Other(["outputs"]),
    "variance": Other(np.full((12, 1), 7.0, np.float32)),
    "calib_params": Other({"output_calibrator": {"params": {"log_temp": np.float32([1.0])}}}),
    "calib_mutable": Refused({"a": 1}, "calib_mutable was given"),
}
BAD_CALIBRATION = Refused({"a": 1}, "calib_params must be a tree")


def predictive_subjects(kind: str, cls: Any, data: Any, other: Any) -> Iterator[tuple[str, Any]]:
    """Every public method of a predictive distribution."""
    for name, method in methods(cls):
        arguments = set(inspect.signature(method).parameters) - {"self"}
        base = {
            "data_loader": data,
            "inputs_loader": INPUTS,
            "q": 0.4,
            "rng": key(),
            "n_posterior_samples": 2,
            "n_output_samples": 2,
            "n_target_samples": 2,
        }
        entries = {**OF_PREDICTIVES, "data_loader": Other(other)}
        if name == "conformal_set":
            base |= {"train_data_loader": data, "test_inputs_loader": INPUTS, "return_ess": True}
            base |= {"error": 0.3}
            entries["error"] = Other(0.9)
            entries["train_data_loader"] = Other(ONE_CLASS)
        if kind == "regressor":
            entries["means"] = Other(np.eye(12, 1, dtype=np.float32))
        if name == "aleatoric_entropy":
            entries["n_target_samples"] = Inert(5, "changes nothing")
        yield (
            f"{cls.__name__}.{name}",
            Subject(
                method,
                lambda name=name, **given: getattr(fitted(kind).predictive, name)(**given),
                lambda base=base, names=arguments: {k: base[k] for k in base if k in names},
                {argument: entries[argument] for argument in arguments if argument in entries},
                cls.__doc__,
            ),
        )


def likelihood_subjects(kind: str, cls: Any, data: Any, other: Any) -> Iterator[tuple[str, Any]]:
    """Every public method of a model's likelihood."""
    for name, method in methods(cls):
        if name in ("predictions", "calibration_statistics"):
            continue
        arguments = set(inspect.signature(method).parameters) - {"self"}

        def base(names: set[str] = arguments, of: str = kind) -> dict[str, Any]:
            params = fitted(of).posterior.state.get().params
            given = {"params": params, "data_loader": data, "inputs_loader": INPUTS, "q": 0.4}
            given |= {"n_target_samples": 40, "rng": key()}
            return {name: value for name, value in given.items() if name in names}

        entries = {
            **OF_LIKELIHOODS,
            "data_loader": Other(other),
            "params": Other(Later(lambda: opposite_params(kind))),
            "mutable": Elsewhere(under_statistics(kind, name, base), 0.0, 3.0),
        }
        # A temperature moves neither a classifier's mode nor a regressor's mean.
        if name == "mode" or (name == "mean" and kind == "regressor"):
            entries["calib_params"] = BAD_CALIBRATION
        yield (
            f"{cls.__name__}.{name}",
            Subject(
                method,
                lambda name=name, **given: getattr(fitted(kind).likelihood, name)(**given),
                base,
                {argument: entries[argument] for argument in arguments if argument in entries},
                cls.__doc__,
            ),
        )


def under_statistics(kind: str, name: str, base: Callable[..., Any]) -> Callable[[float], Any]:
    """A method under the statistics of batch normalisation, moved by some amount."""

    def run(moved: float) -> Any:
        model = fitted(f"{kind} with statistics")
        state = model.posterior.state.get()
        mutable = jax.tree.map(lambda leaf: leaf + moved * np.arange(leaf.size), state.mutable)
        arguments = base(of=f"{kind} with statistics")
        return getattr(model.likelihood, name)(**arguments, mutable=mutable)

    return run


def opposite_params(kind: str) -> Any:
    return jax.tree.map(lambda leaf: -2 * leaf + 1, fitted(kind).posterior.state.get().params)


TABLE = table(
    predictive_subjects("classifier", ClassificationPredictive, CLASSES, CLASSES2),
    predictive_subjects("regressor", RegressionPredictive, NUMBERS, NUMBERS2),
    likelihood_subjects("classifier", ClassificationLikelihood, CLASSES, CLASSES2),
    likelihood_subjects("regressor", RegressionLikelihood, NUMBERS, NUMBERS2),
)


@pytest.mark.parametrize(("name", "argument"), cases(TABLE))
def test_every_argument_acts(name: str, argument: str) -> None:
    check(name, TABLE[name], argument)
