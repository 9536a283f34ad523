"""No dead option: every public argument changes what it says it changes, or raises.

Each argument has an entry in a table. A new argument without one fails here, and so does an entry
whose argument is gone.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import hoarfrost
from hoarfrost import metric, prob_model
from hoarfrost.data import DataLoader, InputsLoader, TargetsLoader
from hoarfrost.errors import HoarfrostError
from hoarfrost.likelihood import Gaussian
from hoarfrost.predictive import RegressionPrediction, classes
from hoarfrost.prior import DiagonalGaussianPrior, IsotropicGaussianPrior
from hoarfrost.prob_model.likelihood import ClassificationLikelihood, RegressionLikelihood
from hoarfrost.prob_model.posterior import LaplacePosterior, MAPPosterior
from hoarfrost.prob_model.predictive import ClassificationPredictive, RegressionPredictive

TESTS = Path(__file__).parent


# --- kinds of entries ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Later:
    """A value that takes work to make, and is made when the test runs."""

    make: Callable[[], Any]


@dataclass(frozen=True)
class Other:
    """Another value than that of the base call (or than the default) gives another result."""

    value: Any


@dataclass(frozen=True)
class Pair:
    """Two calls, each the base call with some arguments changed, give different results."""

    first: dict[str, Any]
    second: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """The value is an error of ours, whose message names what is wrong."""

    value: Any
    message: str


@dataclass(frozen=True)
class Inert:
    """The value changes nothing, as the documentation says in these words."""

    value: Any
    words: str


@dataclass(frozen=True)
class Covered:
    """A test elsewhere shows it: "file::test"."""

    test: str


Entry = Other | Pair | Refused | Inert | Covered


@dataclass(frozen=True)
class Subject:
    """A public callable: how to get a result that can be compared, and an entry per argument."""

    documented: Callable[..., Any]
    run: Callable[..., Any]
    base: Callable[[], dict[str, Any]]
    entries: dict[str, Entry]
    about: str = ""


# --- small problems ------------------------------------------------------------------------------

_RNG = np.random.default_rng(3)
X = _RNG.standard_normal((12, 2)).astype(np.float32)
X2 = X[::-1] * np.float32(1.5)
Y = (np.arange(12) % 3).astype(np.int32)
T = np.sin(2 * X[:, :1]) + np.float32(0.1) * X[:, 1:]
CLASSES, CLASSES2 = (DataLoader.from_array_data((x, Y), batch_size=6) for x in (X, X2))
NUMBERS, NUMBERS2 = (DataLoader.from_array_data((x, T), batch_size=6) for x in (X, X2))
INPUTS, INPUTS2 = (InputsLoader.from_array_inputs(x) for x in (X, X2))


class Net(nn.Module):
    outputs: int = 3
    hidden: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.outputs, name="head")(jnp.tanh(nn.Dense(self.hidden, name="body")(x)))


class Bias(nn.Module):
    @nn.compact
    def __call__(self, outputs: jax.Array) -> jax.Array:
        return outputs + self.param("bias", nn.initializers.zeros, outputs.shape[-1:])


def key(seed: int = 0) -> jax.Array:
    return jax.random.PRNGKey(seed)


def head_only(path: Any, value: Any) -> str:
    return "trainable" if "head" in path else "frozen"


ADAM, SGD = optax.adam(3e-2), optax.sgd(1e-3)


def config(n_epochs: int = 2, **parts: Any) -> prob_model.FitConfig:
    return prob_model.FitConfig(
        **{
            "optimizer": prob_model.FitOptimizer(method=ADAM, n_epochs=n_epochs),
            "monitor": prob_model.FitMonitor(verbose=False),
            **parts,
        }
    )


def calib(n_epochs: int = 2, **parts: Any) -> prob_model.CalibConfig:
    return prob_model.CalibConfig(
        **{
            "optimizer": prob_model.CalibOptimizer(method=ADAM, n_epochs=n_epochs),
            "monitor": prob_model.CalibMonitor(verbose=False),
            "processor": prob_model.CalibProcessor(n_posterior_samples=2),
            **parts,
        }
    )


UNTUNED = prob_model.LaplacePosteriorApproximator(tune_prior_log_variance=False)
AT_MAP = prob_model.MAPPosteriorApproximator()


def classifier(**options: Any) -> Any:
    options = {"model": Net(), "posterior_approximator": UNTUNED, **options}
    return prob_model.ProbClassifier(**options)


def regressor(**options: Any) -> Any:
    nets = {"model": Net(1), "likelihood_log_variance_model": Net(1)}
    return prob_model.ProbRegressor(**{**nets, "posterior_approximator": UNTUNED, **options})


def quiet() -> prob_model.FitConfig:
    return prob_model.FitConfig(monitor=prob_model.FitMonitor(verbose=False))


CACHE: dict[str, Any] = {}


def kept(name: str, make: Callable[[], Any]) -> Any:
    """Made at first use: importing this file starts no work."""
    if name not in CACHE:
        CACHE[name] = make()
    return CACHE[name]


def fitted(kind: str) -> Any:
    """A trained model whose calls leave it as it was; "regressor", "classifier" or "map"."""

    def make() -> Any:
        if kind == "map":
            model = classifier(posterior_approximator=AT_MAP)
            model.train(CLASSES, fit_config=config())
            return model
        model, data = (regressor(), NUMBERS) if kind == "regressor" else (classifier(), CLASSES)
        model.train(data, fit_config=quiet(), map_fit_config=config())
        return model

    return kept(kind, make)


def apply(params: Any, x: Any) -> jax.Array:
    return jnp.tanh(x @ params["a"]) @ params["b"]


def apply_sine(params: Any, x: Any) -> jax.Array:
    return jnp.sin(x @ params["a"]) @ params["b"]


def tree(scale: float = 1.0, outputs: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "a": scale * rng.standard_normal((2, 3)).astype(np.float32),
        "b": scale * rng.standard_normal((3, outputs)).astype(np.float32),
    }


def laplace(outputs: int = 3, **options: Any) -> hoarfrost.Laplace:
    data, likelihood = (CLASSES, "categorical") if outputs == 3 else (NUMBERS, Gaussian(0.5))
    options = {"likelihood": likelihood, "progress": False, **options}
    return hoarfrost.fit_laplace(apply, tree(outputs=outputs), data, **options)


def shown_by(call: Callable[[], Any]) -> tuple[Any, bool]:
    """A result, and whether anything was printed on the way."""
    screen = io.StringIO()
    with contextlib.redirect_stderr(screen), contextlib.redirect_stdout(screen):
        result = call()
    return result, bool(screen.getvalue())


# --- how each callable is run --------------------------------------------------------------------


def run_fit_laplace(model: Any, params: Any, data_loader: Any, **options: Any) -> Any:
    posterior, shown = shown_by(
        lambda: hoarfrost.fit_laplace(model, params, data_loader, **options)
    )
    evidence = posterior.log_marginal_likelihood()
    return posterior.covariance(), evidence, posterior.curvature is None, shown


def on_laplace(name: str, outputs: int = 3) -> Callable[..., Any]:
    """A method of a fresh posterior, and what it left behind."""

    def run(**arguments: Any) -> Any:
        posterior = kept(f"laplace {outputs}", lambda: laplace(outputs))
        if name.startswith("optimize"):
            posterior = laplace(outputs)
        with warnings.catch_warnings():
            if name == "optimize_on":  # twelve points of noise: a bound is where they lead
                warnings.simplefilter("ignore")
            result = getattr(posterior, name)(**arguments)
        if isinstance(result, RegressionPrediction):
            return result.mean, result.epistemic_variance, result.noise_variance
        if isinstance(result, hoarfrost.Laplace):
            return result.variance(), result.merge(tree())
        return result

    return run


def run_model(make: Callable[..., Any], data: DataLoader) -> Callable[..., Any]:
    """The predictions of a model made with these arguments, after training."""

    def run(**arguments: Any) -> Any:
        model = make(**arguments)
        by_map = arguments["posterior_approximator"] is AT_MAP
        settings = {"fit_config": config()} if by_map else {"map_fit_config": config()}
        model.train(data, **{"fit_config": quiet(), **settings})
        return model.predictive.log_prob(data, 2, key())

    return run


def run_train(**arguments: Any) -> Any:
    return classifier().train(**{"fit_config": quiet(), "map_fit_config": config(), **arguments})


def run_posterior_fit(posterior: Any) -> Callable[..., Any]:
    def run(**arguments: Any) -> Any:
        return classifier(posterior_approximator=posterior).posterior.fit(**arguments)

    return run


def run_calibrate(**arguments: Any) -> Any:
    model = classifier()
    model.posterior.state.put(fitted("map").posterior.state.get())
    from_state = prob_model.FitCheckpointer(start_from_current_state=True)
    silent = prob_model.FitMonitor(verbose=False)
    model.train(CLASSES, fit_config=prob_model.FitConfig(checkpointer=from_state, monitor=silent))
    status = model.calibrate(**{"calib_config": calib(), **arguments})
    return status, model.posterior.state.get().calib_params


class Stopped(Exception):
    pass


def run_where(calibrates: bool) -> Callable[..., Any]:
    """What JAX's options are while a fit reads its data, which is where it is stopped."""

    def run(processor: Any) -> Any:
        seen: list[Any] = []

        def data() -> Any:
            seen.append((str(jax.config.jax_default_device), jax.config.jax_disable_jit))
            raise Stopped

        loader = DataLoader.from_callable_iterable(data)
        with pytest.raises(Stopped):
            if calibrates:
                fitted("map").calibrate(loader, calib_config=calib(processor=processor))
            else:
                model = classifier(posterior_approximator=AT_MAP)
                model.train(loader, fit_config=config(processor=processor))
        return seen

    return run


class Halved(prob_model.FitCallback):
    def training_epoch_end(self, state: Any) -> Any:
        return state.replace(params=jax.tree.map(lambda leaf: leaf / 2, state.params))


def run_map(**parts: Any) -> Any:
    """MAP training: its status, parameters and whether anything was shown."""
    settings = config(**parts)
    model = classifier(posterior_approximator=AT_MAP)
    if settings.checkpointer.start_from_current_state:
        model.posterior.state.put(fitted("map").posterior.state.get())
    status, shown = shown_by(lambda: model.train(CLASSES, CLASSES, fit_config=settings))
    return status, model.posterior.state.get().params, shown


def run_calibration(**parts: Any) -> Any:
    """Calibration: its status, its result, and whether anything was shown."""
    model = fitted("map")
    state = model.posterior.state.get()
    try:
        model.rng._key = key(5)
        status, shown = shown_by(lambda: model.calibrate(CLASSES, CLASSES2, calib(**parts)))
        return status, model.posterior.state.get().calib_params, shown
    finally:
        model.posterior.state.put(state)


def run_tuning(**arguments: Any) -> Any:
    model = classifier()
    model.train(CLASSES, fit_config=quiet(), map_fit_config=config())
    return model.posterior.prior_log_variance_tuning(**arguments)


def configured(cls: Any, part: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` under a configuration, one part of which is made with the arguments."""
    fixed = {"verbose": False} if "verbose" in inspect.signature(cls).parameters else {}
    if "method" in inspect.signature(cls).parameters:
        fixed = {"method": ADAM, "n_epochs": 2}
    return lambda **arguments: run(**{part: cls(**{**fixed, **arguments})})


def batches(loader: Any) -> Any:
    """Two epochs, and what a loader says of itself."""
    if isinstance(loader, tuple):
        return [batches(part) for part in loader]
    unique = loader.num_unique_labels if isinstance(loader, DataLoader) else None
    return list(loader.epoch(0)), list(loader.epoch(1)), loader.size, unique


def doubled(*batch: Any) -> tuple[Any, ...]:
    *arrays, status = batch
    return (*(array + (1 if status is None else status) for array in arrays), status)


def negated(*batch: Any) -> tuple[Any, ...]:
    return (*(-array for array in batch[:-1]), batch[-1])


# --- the table -----------------------------------------------------------------------------------

PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]], np.float32)
PROBS2 = np.array([[0.5, 0.3, 0.2], [0.05, 0.9, 0.05], [0.2, 0.2, 0.6]], np.float32)
LABELS, LABELS2 = np.array([0, 2, 2]), np.array([1, 1, 0])
GUESSES = PROBS.argmax(1)
LOW = np.array([-1.0, 0.0, 2.0], np.float32)
SECOND = {"distribute": Inert(False, "one device does the work")}

OF_PREDICTIVES: dict[str, Entry] = {
    **SECOND,
    "inputs_loader": Other(INPUTS2),
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
    statistics = {
        "classifier": "test_prob_model.py::test_statistics_are_kept_and_used",
        "regressor": "test_regressor.py::test_batch_norm_in_either_network",
    }[kind]
    for name, method in methods(cls):
        if name in ("predictions", "calibration_statistics"):
            continue
        arguments = set(inspect.signature(method).parameters) - {"self"}

        def base(names: set[str] = arguments) -> dict[str, Any]:
            params = fitted(kind).posterior.state.get().params
            given = {"params": params, "data_loader": data, "inputs_loader": INPUTS, "q": 0.4}
            return {name: value for name, value in given.items() if name in names}

        entries = {
            **OF_LIKELIHOODS,
            "data_loader": Other(other),
            "params": Other(Later(lambda: opposite_params(kind))),
            "mutable": Covered(statistics),
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


def opposite_params(kind: str) -> Any:
    return jax.tree.map(lambda leaf: -2 * leaf + 1, fitted(kind).posterior.state.get().params)


def methods(cls: Any) -> list[tuple[str, Any]]:
    """Public functions of a class that take an argument."""
    found = []
    for name, member in inspect.getmembers(cls):
        function = inspect.isfunction(member) or inspect.ismethod(member)
        if function and not name.startswith("_") and arguments_of(member):
            found.append((name, member))
    return found


def arguments_of(documented: Any) -> list[str]:
    return [name for name in inspect.signature(documented).parameters if name != "self"]


def nothing() -> dict[str, Any]:
    return {}


def built(name: str, run: Callable[..., Any], base: Any, **entries: Entry) -> tuple[str, Subject]:
    """An entry of the table for a name of this file's imports, "Class" or "Class.method"."""
    owner, _, attribute = name.partition(".")
    places = (hoarfrost, prob_model, metric, prob_model, SimpleNamespace(**globals()))
    found = next(getattr(place, owner) for place in places if hasattr(place, owner))
    about = found.__doc__ if attribute else ""
    documented = getattr(found, attribute) if attribute else found
    return name, Subject(
        documented, run, base if callable(base) else lambda: base, entries, about or ""
    )


NO_DISK = "checkpoints on disk are not available"
DISK: dict[str, Entry] = {
    "save_checkpoint_dir": Refused("somewhere", NO_DISK),
    "restore_checkpoint_path": Refused("somewhere", NO_DISK),
    "save_every_n_steps": Refused(3, NO_DISK),
    "dump_state": Refused(True, NO_DISK),
    "keep_top_n_checkpoints": Inert(5, "acts only together with `save_checkpoint_dir`"),
}
NO_EDITOR = Refused("an editor", "model_editor is 'an editor', but this version has none")


def of_functional_front() -> Iterator[tuple[str, Subject]]:
    yield built(
        "fit_laplace",
        run_fit_laplace,
        lambda: {"model": apply, "params": tree(), "data_loader": CLASSES, "progress": False},
        model=Other(apply_sine),
        params=Other(tree(0.5)),
        data_loader=Other(CLASSES2),
        likelihood=Pair(
            {"data_loader": CLASSES_AS_ROWS, "likelihood": "bernoulli"},
            {"data_loader": CLASSES_AS_ROWS, "likelihood": "poisson"},
        ),
        trainable=Other(lambda path, value: "b" in path),
        hessian_structure=Other("diag"),
        prior_precision=Other(3.0),
        prior_mean=Other(0.5),
        keep_curvature=Other(False),
        memory_budget=Refused(100, "memory_budget|bytes"),
        progress=Other(True),
    )
    yield built(
        "plan",
        lambda **given: str(hoarfrost.plan(**given)),
        lambda: {"model": apply, "params": tree(), "inputs": X, "memory_budget": 10_000},
        model=Pair(
            {"trainable": "last_layer"},
            {"trainable": "last_layer", "model": lambda params, x: x @ params["a"]},
        ),
        params=Other(tree(outputs=4)),
        inputs=Refused(X[:0], "inputs are empty"),
        likelihood=Pair({}, {"likelihood": "bernoulli", "trainable": "last_layer"}),
        trainable=Other("last_layer"),
        memory_budget=Other(20_000),
    )
    drawn: dict[str, Entry] = {
        "n_samples": Pair({"link": "mc"}, {"link": "mc", "n_samples": 7}),
        "seed": Pair({"link": "mc"}, {"link": "mc", "seed": 7}),
    }
    structure = Other("layerwise")
    of_classes: dict[str, tuple[dict[str, Any], dict[str, Entry]]] = {
        "optimize_prior_precision": ({}, {"structure": structure}),
        "optimize_prior_scale": ({}, {"low": Other(1e3), "high": Other(1e-3)}),
        "with_prior_precision": ({"prior_precision": 1.0}, {"prior_precision": Other(2.0)}),
        "sample": ({"seed": 0, "n_samples": 2}, {"seed": Other(1), "n_samples": Other(3)}),
        "merge": ({"tree": tree()}, {"tree": Other(tree(2.0))}),
        "with_collections": ({"collections": {}}, {"collections": Other({"batch_stats": X})}),
        "functional_covariance": ({"inputs": X}, {"inputs": Other(X2), "joint": Other(True)}),
        "functional_variance": ({"inputs": X}, {"inputs": Other(X2)}),
        "predict": (
            {"inputs": X},
            {"inputs": Other(X2), "link": Other("bridge"), "log": Other(True), **drawn},
        ),
        "predict_proba": ({"inputs": X}, {"inputs": Other(X2), "link": Other("bridge"), **drawn}),
        "log_prob": (
            {"data_loader": CLASSES},
            {"data_loader": Other(CLASSES2), "link": Other("bridge"), **drawn},
        ),
    }
    drawn = {
        "n_samples": Pair({"link": "nn"}, {"link": "nn", "n_samples": 7}),
        "seed": Pair({"link": "nn"}, {"link": "nn", "seed": 7}),
    }
    of_numbers: dict[str, tuple[dict[str, Any], dict[str, Entry]]] = {
        "log_marginal_likelihood": (
            {},
            {"prior_precision": Other(2.0), "noise_std": Other(0.7)},
        ),
        "optimize_hyperparameters": ({}, {"structure": structure}),
        "optimize_on": (
            {"data_loader": NUMBERS2},
            {
                "data_loader": Other(NUMBERS),
                "link": Other("nn"),
                **drawn,
                "low": Other(0.9),
                "high": Other(1.1),
                "grid_size": Other(4),
            },
        ),
        "predict_regression": ({"inputs": X}, {"inputs": Other(X2), "link": Other("nn"), **drawn}),
    }
    for outputs, group in ((3, of_classes), (1, of_numbers)):
        for name, (base, entries) in group.items():
            yield built(f"Laplace.{name}", on_laplace(name, outputs), base, **entries)
    prediction = RegressionPrediction(T, np.ones_like(T), 2 * np.ones_like(T))
    yield built("RegressionPrediction.quantile", prediction.quantile, {"q": 0.3}, q=Other(0.4))
    yield built(
        "RegressionPrediction.credible_interval",
        prediction.credible_interval,
        {},
        error=Other(0.2),
        interval_type=Other("left-tailed"),
    )


def of_models() -> Iterator[tuple[str, Subject]]:
    shared: dict[str, Entry] = {
        "prior": Other(IsotropicGaussianPrior(-2.0)),
        "posterior_approximator": Other(UNTUNED),
        "output_calibrator": Covered("test_calibration.py::test_a_calibrator_of_ones_own"),
        "model_editor": NO_EDITOR,
        "seed": Other(1),
    }
    base = {"model": Net(), "posterior_approximator": AT_MAP}
    run = run_model(classifier, CLASSES)
    yield built("ProbClassifier", run, base, model=Other(Net(3, 4)), **shared)
    base = {"model": Net(1), "posterior_approximator": AT_MAP}
    other = {"model": Other(Net(1, 4)), "likelihood_log_variance_model": Other(Net(1, 4))}
    yield built("ProbRegressor", run_model(regressor, NUMBERS), base, **other, **shared)
    training: dict[str, Entry] = {
        "train_data_loader": Other(CLASSES2),
        "val_data_loader": Other(CLASSES2),
        "fit_config": Pair(
            {"fit_config": quiet(), "map_fit_config": config()},
            {
                "fit_config": prob_model.FitConfig(
                    optimizer=prob_model.FitOptimizer(freeze_fun=head_only),
                    monitor=prob_model.FitMonitor(verbose=False),
                ),
                "map_fit_config": config(),
            },
        ),
    }
    calibration = {"calib_data_loader": CLASSES, "calib_config": calib()}
    yield built(
        "ProbClassifier.train",
        run_train,
        {"train_data_loader": CLASSES},
        **training,
        map_fit_config=Other(config(3)),
        calib_data_loader=Pair({}, calibration),
        calib_config=Pair(calibration, {**calibration, "calib_config": calib(3)}),
    )
    yield built(
        "ProbClassifier.calibrate",
        run_calibrate,
        {"calib_data_loader": CLASSES},
        calib_data_loader=Other(CLASSES2),
        val_data_loader=Other(CLASSES2),
        calib_config=Other(calib(3)),
    )
    yield built(
        "LaplacePosterior.fit",
        run_posterior_fit(UNTUNED),
        {"train_data_loader": CLASSES, "fit_config": quiet(), "map_fit_config": config()},
        **training,
        map_fit_config=Other(config(3)),
    )
    yield built(
        "MAPPosterior.fit",
        run_posterior_fit(AT_MAP),
        {"train_data_loader": CLASSES, "fit_config": config()},
        train_data_loader=Other(CLASSES2),
        val_data_loader=Other(CLASSES2),
        fit_config=Other(config(3)),
        map_fit_config=Refused(config(), "give it as fit_config"),
    )
    yield built(
        "LaplacePosterior.prior_log_variance_tuning",
        run_tuning,
        {"val_data_loader": CLASSES2, "grid_size": 3},
        val_data_loader=Other(CLASSES),
        n_posterior_samples=Pair({"link": "mc"}, {"link": "mc", "n_posterior_samples": 3}),
        mode=Pair({}, {"val_data_loader": None, "mode": "marginal_lik"}),
        min_prior_log_var=Other(-1.0),
        max_prior_log_var=Other(1.0),
        grid_size=Other(9),
        link=Other("mc"),
        **SECOND,
    )
    for kind, name in (("classifier", "LaplacePosterior"), ("map", "MAPPosterior")):
        at_map = kind == "map"
        yield built(
            f"{name}.sample",
            lambda kind=kind, **given: vars(fitted(kind).posterior.sample(**given)),
            {"rng": key()},
            rng=Inert(key(1), "whatever `rng` is") if at_map else Other(key(1)),
        )
        words = "all others would equal it, under either `link`"
        yield built(
            f"{name}.weight_samples",
            lambda kind=kind, **given: weights(fitted(kind).posterior.weight_samples(**given)),
            {"n_samples": 2, "key": key()},
            n_samples=Inert(3, words) if at_map else Other(3),
            key=Inert(key(1), words) if at_map else Other(key(1)),
            link=Inert("nn", words) if at_map else Other("nn"),
        )
    yield built(
        "LaplacePosteriorApproximator",
        lambda **given: run_train_with(prob_model.LaplacePosteriorApproximator(**given)),
        {"tune_prior_log_variance": False},
        tune_prior_log_variance=Other(True),
        hessian_structure=Other("diag"),
    )


def run_train_with(approximator: Any) -> Any:
    model = classifier(posterior_approximator=approximator)
    model.train(CLASSES, fit_config=quiet(), map_fit_config=config())
    return model.posterior.laplace.covariance()


def weights(samples: Any) -> Any:
    return samples.trainable, samples.frozen, samples.center


def error_rate(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.mean(predictions != targets)


def uncertain(predictions: Any, uncertainties: Any, targets: Any) -> Any:
    return jnp.mean(uncertainties)


def of_configs() -> Iterator[tuple[str, Subject]]:
    stop = {"early_stopping_patience": 1, "early_stopping_min_delta": 100.0}
    five = config(5).optimizer
    fit: dict[str, tuple[str, dict[str, Any], dict[str, Entry]]] = {
        "FitOptimizer": (
            "optimizer",
            {},
            {"method": Other(SGD), "n_epochs": Other(3), "freeze_fun": WARNED},
        ),
        "FitCheckpointer": (
            "checkpointer",
            {},
            {**DISK, "start_from_current_state": Other(True)},
        ),
        "FitMonitor": (
            "monitor",
            {},
            {
                "metrics": Other((error_rate,)),
                "early_stopping_patience": Pair(
                    {"early_stopping_min_delta": 100.0},
                    {"early_stopping_min_delta": 100.0, "early_stopping_patience": 1},
                ),
                "early_stopping_monitor": Covered(
                    "test_prob_model.py::test_every_part_of_a_map_config_acts"
                ),
                "early_stopping_min_delta": Pair({"early_stopping_patience": 1}, stop),
                "eval_every_n_epochs": Other(2),
                "disable_training_metrics_computation": Pair(
                    {"metrics": (error_rate,)},
                    {"metrics": (error_rate,), "disable_training_metrics_computation": True},
                ),
                "verbose": Other(True),
            },
        ),
        "FitHyperparameters": (
            "hyperparameters",
            {},
            {"max_grad_norm": Other(1e-6), "gradient_accumulation_steps": Other(2)},
        ),
    }
    for name, (part, base, entries) in fit.items():
        yield built(name, configured(getattr(prob_model, name), part, run_map), base, **entries)
    yield built(
        "FitConfig",
        lambda **given: run_map(**given),
        {},
        optimizer=Other(five),
        checkpointer=Other(prob_model.FitCheckpointer(start_from_current_state=True)),
        monitor=Other(prob_model.FitMonitor(verbose=False, metrics=(error_rate,))),
        processor=Covered("test_prob_model.py::test_jit_can_be_switched_off"),
        hyperparameters=Other(prob_model.FitHyperparameters(max_grad_norm=1e-6)),
        callbacks=Other([Halved()]),
    )
    both = {"metrics": (uncertain,)}
    calibration: dict[str, tuple[str, dict[str, Any], dict[str, Entry]]] = {
        "CalibOptimizer": ("optimizer", {}, {"method": Other(SGD), "n_epochs": Other(3)}),
        "CalibCheckpointer": ("checkpointer", {}, DISK),
        "CalibMonitor": (
            "monitor",
            {},
            {
                "metrics": Other((uncertain,)),
                "uncertainty_fn": Pair(both, {**both, "uncertainty_fn": classes.entropy}),
                "early_stopping_patience": Pair(
                    {"early_stopping_min_delta": 100.0},
                    {"early_stopping_min_delta": 100.0, "early_stopping_patience": 1},
                ),
                "early_stopping_monitor": Pair(
                    {**both, "early_stopping_patience": 1},
                    {
                        **both,
                        "early_stopping_patience": 1,
                        "early_stopping_monitor": "val_uncertain",
                    },
                ),
                "early_stopping_min_delta": Pair({"early_stopping_patience": 1}, stop),
                "eval_every_n_epochs": Other(2),
                "disable_calibration_metrics_computation": Pair(
                    both, {**both, "disable_calibration_metrics_computation": True}
                ),
                "verbose": Other(True),
            },
        ),
    }
    for name, (part, base, entries) in calibration.items():
        run = configured(getattr(prob_model, name), part, run_calibration)
        yield built(name, run, base, **entries)
    yield built(
        "CalibConfig",
        lambda **given: run_calibration(**given),
        {},
        optimizer=Other(calib(3).optimizer),
        checkpointer=Refused("a folder", "checkpointer must be a CalibCheckpointer"),
        monitor=Other(prob_model.CalibMonitor(verbose=False, metrics=(uncertain,))),
        processor=Covered("test_calibration.py::test_settings_change_the_result"),
    )


def of_processors() -> Iterator[tuple[str, Subject]]:
    acts: dict[str, Entry] = {"devices": Other(0), "disable_jit": Other(True)}
    run = configured(prob_model.FitProcessor, "processor", run_where(calibrates=False))
    yield built("FitProcessor", run, {}, **acts)
    samples = Covered("test_calibration.py::test_settings_change_the_result")
    run = configured(prob_model.CalibProcessor, "processor", run_where(calibrates=True))
    yield built("CalibProcessor", run, {}, **acts, n_posterior_samples=samples)


def of_data() -> Iterator[tuple[str, Subject]]:
    ahead = Covered("test_data.py::test_prefetching_gathers_ahead_in_a_thread")
    arrays: dict[str, Entry] = {
        "batch_size": Other(5),
        "shuffle": Other(True),
        "prefetch": ahead,
        "seed": Pair({"shuffle": True}, {"shuffle": True, "seed": 1}),
    }
    kinds: list[tuple[str, Any, Any, Any, str, str]] = [
        ("DataLoader", CLASSES, (X, Y), (X2, Y), "from_array_data", "data"),
        ("InputsLoader", INPUTS, X, X2, "from_array_inputs", "inputs"),
        ("TargetsLoader", CLASSES.to_targets_loader(), Y, Y[::-1], "from_array_targets", "targets"),
    ]
    for name, loader, data, other, from_arrays, argument in kinds:
        cls = type(loader)

        def call(attribute: str, on: Any = cls) -> Callable[..., Any]:
            return lambda **given: batches(getattr(on, attribute)(**given))

        unique = {"num_unique_labels": Other(7)} if cls is DataLoader else {}
        yield built(
            name,
            lambda cls=cls, **given: batches(cls(**given)),
            {"iterable": [data]},
            iterable=Other([other]),
            **unique,
        )
        yield built(
            f"{name}.{from_arrays}",
            call(from_arrays),
            {argument: data},
            **{argument: Other(other)},
            **arrays,
        )
        yield built(
            f"{name}.from_iterable",
            call("from_iterable"),
            {"iterable": [data]},
            iterable=Other([other]),
        )
        yield built(
            f"{name}.from_callable_iterable",
            call("from_callable_iterable"),
            {"fun": lambda data=data: [data]},
            fun=Other(lambda other=other: [other]),
        )
        if cls is not DataLoader:
            yield built(
                f"{name}.from_data_loader",
                call("from_data_loader"),
                {"data_loader": CLASSES},
                data_loader=Other(DataLoader.from_array_data((X2, Y[::-1]))),
            )
        epochs = cls(DataLoader.from_array_data((X, Y), shuffle=True)._batches)
        if cls is not DataLoader:
            epochs = getattr(cls, from_arrays)(data, shuffle=True)
        yield built(
            f"{name}.epoch",
            lambda epochs=epochs, **given: list(epochs.epoch(**given)),
            {"n": 0},
            n=Other(1),
        )
        yield built(f"{name}.chop", call("chop", loader), {"divisor": 1}, divisor=Other(5))
        yield built(f"{name}.split", call("split", loader), {"n_data": 4}, n_data=Other(5))
        yield built(
            f"{name}.sample",
            call("sample", loader),
            {"seed": 0, "n_samples": 12},
            seed=Other(1),
            n_samples=Other(11),
            replace=Other(False),
        )
        transform = {
            "DataLoader": "to_transformed_data_loader",
            "InputsLoader": "to_transformed_inputs_loader",
            "TargetsLoader": "to_transformed_targets_loader",
        }[name]
        yield built(
            f"{name}.{transform}",
            call(transform, loader),
            {"transform": doubled},
            transform=Other(negated),
            status=Other(2),
        )
    yield built(
        "DataLoader.from_inputs_loaders",
        lambda **given: batches(DataLoader.from_inputs_loaders(**given)),
        {"inputs_loaders": [INPUTS.sample(0, 4), INPUTS2], "targets": [0, 1]},
        inputs_loaders=Other([INPUTS2, INPUTS]),
        targets=Other([1, 0]),
        how=Pair(
            {"inputs_loaders": [InputsLoader.from_array_inputs(X, batch_size=3), INPUTS2]},
            {
                "inputs_loaders": [InputsLoader.from_array_inputs(X, batch_size=3), INPUTS2],
                "how": "concatenate",
            },
        ),
    )
    converted = Covered("test_data.py::test_tensors_become_numpy_arrays")
    yield built("DataLoader.from_tensorflow_data_loader", nothing, {}, tf_data_loader=converted)
    yield built("DataLoader.from_torch_data_loader", nothing, {}, torch_data_loader=converted)


def of_metrics_and_priors() -> Iterator[tuple[str, Subject]]:
    arguments: dict[str, tuple[Any, Any]] = {
        "preds": (GUESSES, LABELS),
        "probs": (PROBS, PROBS2),
        "targets": (LABELS, LABELS2),
        "lower_bounds": (LOW, LOW + 0.5),
        "upper_bounds": (LOW + 1, LOW + 0.1),
    }
    for name, function in inspect.getmembers(metric, inspect.isfunction):
        if name.startswith("_") or not function.__module__.startswith(metric.__name__):
            continue
        names = arguments_of(function)
        base = {argument: arguments[argument][0] for argument in names if argument in arguments}
        entries = {argument: Other(arguments[argument][1]) for argument in base}
        more = {"log": Other(True), "n_bins": Other(2)}
        if "log" in names:
            more["log"] = Refused(True, "with log=True, probs must be log-probabilities")
        if name in ("root_mean_squared_error", "rmse"):
            base = {"preds": LOW, "targets": LOW + 1}
            entries = {"preds": Other(LOW + 3), "targets": Other(LOW + 5)}
        if "lower_bounds" in names:
            base["targets"] = np.float32([-0.7, 0.7, 2.9])
            entries["targets"] = Other(np.float32([5.0, 0.7, 2.9]))
        yield (
            name,
            Subject(
                function,
                function,
                lambda base=base: base,
                {**entries, **{key: more[key] for key in more if key in names}},
            ),
        )
    log_vars = np.zeros(15), np.linspace(-1, 1, 15)
    for name, cls, pair in (
        ("IsotropicGaussianPrior", IsotropicGaussianPrior, (0.0, 1.0)),
        ("DiagonalGaussianPrior", DiagonalGaussianPrior, log_vars),
    ):
        yield built(
            name,
            lambda cls=cls, **given: cls(**given).log_joint_prob(tree()),
            {"log_var": pair[0]},
            log_var=Other(pair[1]),
            mean=Other(0.5),
        )
        prior = cls(pair[1])
        yield built(
            f"{name}.log_joint_prob",
            prior.log_joint_prob,
            {"params": tree()},
            params=Other(tree(2.0)),
        )
        yield built(
            f"{name}.sample",
            prior.sample,
            {"params_like": tree()},
            params_like=Other({"c": tree()["a"], "d": tree()["b"]}),
            rng=Other(key(1)),
        )
        other = {"c": tree()["a"], "d": tree()["b"]}
        for method in ("precision_tree", "mean_tree"):
            yield built(
                f"{name}.{method}", getattr(prior, method), {"params": tree()}, params=Other(other)
            )
    yield built(
        "Gaussian",
        lambda **given: Gaussian(**given).log_prob(jnp.asarray(T), jnp.asarray(T)),
        {},
        noise_std=Other(2.0),
    )


CLASSES_AS_ROWS = DataLoader.from_array_data((X, np.eye(3, dtype=np.float32)[Y]))
WARNED = Covered("test_prob_model.py::test_freezing_a_map_at_random_values_warns")


def table() -> dict[str, Subject]:
    found = [
        *of_functional_front(),
        *of_models(),
        *of_configs(),
        *of_processors(),
        *of_data(),
        *of_metrics_and_priors(),
        *predictive_subjects("classifier", ClassificationPredictive, CLASSES, CLASSES2),
        *predictive_subjects("regressor", RegressionPredictive, NUMBERS, NUMBERS2),
        *likelihood_subjects("classifier", ClassificationLikelihood, CLASSES, CLASSES2),
        *likelihood_subjects("regressor", RegressionLikelihood, NUMBERS, NUMBERS2),
    ]
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


TABLE = table()
# Classes all of whose public methods must stand in the table.
WHOLE = (
    hoarfrost.Laplace,
    RegressionPrediction,
    DataLoader,
    InputsLoader,
    TargetsLoader,
    LaplacePosterior,
    MAPPosterior,
    IsotropicGaussianPrior,
    DiagonalGaussianPrior,
)
# Names without arguments, or with methods to be overridden, whose hooks are tested with training.
NO_ARGUMENTS = {"MAPPosteriorApproximator", "FitCallback"}
# What the package makes and hands out.
HANDED_OUT = {"JointState", "PosteriorState", "Laplace"}


# --- the tests -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile() -> Iterator[None]:
    """Most of the time goes to compiling hundreds of small programs: not to making them fast."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    CACHE.clear()


def same(first: Any, second: Any) -> bool:
    """Whether two results, trees of anything, are equal bit for bit."""
    leaves, structures = zip(*map(jax.tree.flatten, (first, second)), strict=True)
    if structures[0] != structures[1]:
        return False
    return all(
        np.shape(a) == np.shape(b) and np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(*leaves, strict=True)
    )


CASES = [(name, argument) for name in TABLE for argument in arguments_of(TABLE[name].documented)]


@pytest.mark.parametrize(("name", "argument"), CASES, ids=[".".join(case) for case in CASES])
def test_every_argument_acts(name: str, argument: str) -> None:
    subject = TABLE[name]
    assert argument in subject.entries, f"{argument} of {name} has no entry in the table"
    entry, base = subject.entries[argument], subject.base()
    if isinstance(entry, Covered):
        file, test = entry.test.split("::")
        parsed = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in parsed.body if isinstance(node, ast.FunctionDef)}
        return
    if isinstance(entry, Refused):
        with pytest.raises(HoarfrostError, match=entry.message):
            subject.run(**{**base, argument: entry.value})
        return
    if isinstance(entry, Pair):
        first = subject.run(**{**base, **entry.first})
        second = subject.run(**{**base, **entry.second})
    else:
        value = entry.value.make() if isinstance(entry.value, Later) else entry.value
        first = kept(f"result of {name}", lambda: subject.run(**base))
        second = subject.run(**{**base, argument: value})
    assert same(first, second) == isinstance(entry, Inert)
    if isinstance(entry, Inert):
        documentation = " ".join(f"{subject.about} {subject.documented.__doc__}".split())
        assert entry.words in documentation


def test_the_table_holds_no_argument_that_is_gone() -> None:
    for name, subject in TABLE.items():
        assert set(subject.entries) <= set(arguments_of(subject.documented)), name


def test_the_table_holds_every_public_callable() -> None:
    wanted = {f"{cls.__name__}.{name}" for cls in WHOLE for name, _ in methods(cls)}
    wanted |= {f"ProbClassifier.{name}" for name, _ in methods(prob_model.ProbClassifier)}
    front = {name for name in prob_model.__all__ if name not in NO_ARGUMENTS}
    functions = {name for name in hoarfrost.__all__ if callable(getattr(hoarfrost, name))}
    wanted |= {*front, *functions} - HANDED_OUT
    assert wanted - set(TABLE) == set()
    assert not any(arguments_of(getattr(prob_model, name)) for name in NO_ARGUMENTS)


def test_a_result_that_differs_is_told_from_one_that_does_not() -> None:
    assert same({"a": X, "b": [1, "x"]}, {"a": X.copy(), "b": [1, "x"]})
    assert not same({"a": X}, {"a": X + np.float32(1e-6)})
    assert not same({"a": X}, {"b": X}) and not same([1], [2]) and not same((X, X), (X,))
