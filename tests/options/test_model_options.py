"""Every argument of Fortuna's models, their training and their posteriors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from entries import (
    SECOND,
    Elsewhere,
    Entry,
    Inert,
    Other,
    Pair,
    Refused,
    Subject,
    built,
    cases,
    check,
    table,
)
from problems import (
    AT_MAP,
    CLASSES,
    CLASSES2,
    NUMBERS,
    UNTUNED,
    Bias,
    Net,
    calib,
    classifier,
    config,
    fitted,
    head_only,
    held,
    key,
    nnx_net,
    quiet,
    regressor,
)

from hoarfrost import prob_model
from hoarfrost.data import DataLoader
from hoarfrost.methods import rmsprop_preconditioner
from hoarfrost.prior import IsotropicGaussianPrior
from hoarfrost.prob_model import JointState

NO_EDITOR = Refused("an editor", "model_editor is 'an editor', but this version has none")


def run_model(make: Callable[..., Any], data: DataLoader) -> Callable[..., Any]:
    """The predictions of a model made with these arguments, after training."""

    def run(**arguments: Any) -> Any:
        model = make(**arguments)
        by_map = arguments["posterior_approximator"] is AT_MAP
        settings = {"fit_config": config()} if by_map else {"map_fit_config": config()}
        model.train(data, **{"fit_config": quiet(), **settings})
        return model.predictive.log_prob(data, 2, key())

    return run


def run_calibrated(make: Callable[..., Any], data: DataLoader) -> Callable[[Any], Any]:
    """The predictions of a model made with these arguments, after training and calibration."""

    def run(arguments: dict[str, Any]) -> Any:
        model = make(posterior_approximator=AT_MAP, **arguments)
        model.train(data, fit_config=config(), calib_data_loader=data, calib_config=calib())
        return model.predictive.log_prob(data, 2, key())

    return run


def run_train(**arguments: Any) -> Any:
    return classifier().train(**{"fit_config": quiet(), "map_fit_config": config(), **arguments})


def run_posterior_fit(posterior: Any) -> Callable[..., Any]:
    def run(**arguments: Any) -> Any:
        return classifier(posterior_approximator=posterior).posterior.fit(**arguments)

    return run


def run_warned(map_fit_config: Any) -> list[str]:
    """What a MAP model says of a configuration that it has no use for."""
    model = classifier(posterior_approximator=AT_MAP)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.posterior.fit(CLASSES, fit_config=config(), map_fit_config=map_fit_config)
    return [str(warning.message) for warning in caught]


def run_calibrate(**arguments: Any) -> Any:
    model = classifier()
    model.posterior.state.put(fitted("map").posterior.state.get())
    from_state = prob_model.FitCheckpointer(start_from_current_state=True)
    silent = prob_model.FitMonitor(verbose=False)
    model.train(CLASSES, fit_config=prob_model.FitConfig(checkpointer=from_state, monitor=silent))
    status = model.calibrate(**{"calib_config": calib(), **arguments})
    return status, model.posterior.state.get().calib_params


def run_tuning(**arguments: Any) -> Any:
    model = classifier()
    model.train(CLASSES, fit_config=quiet(), map_fit_config=config())
    return model.posterior.prior_log_variance_tuning(**arguments)


def doubled(module: Any, inputs: Any) -> Any:
    return 2 * module(inputs)


def run_write_to(approximator: Any) -> Callable[..., Any]:
    """What a module holds after it was written to."""

    def run(**given: Any) -> Any:
        model = classifier(model=nnx_net(), posterior_approximator=approximator)
        by_map = approximator is AT_MAP
        settings = {"fit_config": config()} if by_map else {"map_fit_config": config()}
        model.train(CLASSES, **{"fit_config": quiet(), **settings})
        model.posterior.write_to(**given)
        return held(given["module"])

    return run


def of_models() -> Iterator[tuple[str, Subject]]:
    shared: dict[str, Entry] = {
        "prior": Other(IsotropicGaussianPrior(-2.0)),
        "posterior_approximator": Other(UNTUNED),
        "model_editor": NO_EDITOR,
        "seed": Other(1),
    }
    base = {"model": Net(), "posterior_approximator": AT_MAP}
    run = run_model(classifier, CLASSES)
    own = Elsewhere(run_calibrated(classifier, CLASSES), {}, {"output_calibrator": Bias()})
    entries = {"model": Other(Net(3, 4)), "output_calibrator": own, **shared}
    entries["call"] = Other(doubled)
    entries["ignored_label"] = Other(2)
    yield built("ProbClassifier", run, base, **entries)
    base = {"model": Net(1), "posterior_approximator": AT_MAP}
    other = {"model": Other(Net(1, 4)), "likelihood_log_variance_model": Other(Net(1, 4))}
    own = Elsewhere(run_calibrated(regressor, NUMBERS), {}, {"output_calibrator": Bias()})
    calls = {"call": Other(doubled), "log_variance_call": Other(doubled)}
    entries = {**other, "output_calibrator": own, **shared, **calls}
    yield built("ProbRegressor", run_model(regressor, NUMBERS), base, **entries)
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
        map_fit_config=Elsewhere(run_warned, None, config()),
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
            f"{name}.write_to",
            run_write_to(UNTUNED if kind == "classifier" else AT_MAP),
            lambda: {"module": nnx_net(1)},
            module=Refused(Net(), "module is a Net; give an NNX module"),
            state=Other(JointState({"model": held(nnx_net(2))})),
            name=Refused("noise", "name is 'noise'; the networks of this model are model"),
        )
        yield built(
            f"{name}.sample",
            lambda kind=kind, **given: vars(fitted(kind).posterior.sample(**given)),
            {"rng": key()},
            rng=Inert(key(1), "whatever `rng` is") if at_map else Other(key(1)),
            inputs_loader=Inert(CLASSES.to_inputs_loader(), "no draw depends on inputs"),
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
    for name, (base, entries) in METHODS.items():
        full = f"{name}PosteriorApproximator"
        yield built(full, partial(run_method, getattr(prob_model, full)), base, **entries)


STEPS = {"n_samples": 2, "n_thinning": 1}
CYCLES = {"n_samples": 3, "n_thinning": 1, "cycle_length": 4, "init_step_size": 1e-3}
RMSPROP = Other(rmsprop_preconditioner())
# For each method a right call, and another value of each argument.
METHODS: dict[str, tuple[dict[str, Any], dict[str, Entry]]] = {
    "SWAG": ({"rank": 2}, {"rank": Other(3)}),
    "ADVI": (
        {},
        {
            "std_init_params": Other(0.3),
            "log_std_base": Other(-1.0),
            "n_loss_samples": Other(2),
        },
    ),
    "DeepEnsemble": ({"ensemble_size": 2}, {"ensemble_size": Other(3)}),
    "SGHMC": (
        {**STEPS, "burnin_length": 0, "step_schedule": 1e-3},
        {
            "n_samples": Other(3),
            "n_thinning": Other(2),
            "burnin_length": Other(1),
            "momentum_decay": Other(0.5),
            "step_schedule": Other(1e-2),
            "preconditioner": RMSPROP,
        },
    ),
    "CyclicalSGLD": (
        CYCLES,
        {
            "n_samples": Other(2),
            "n_thinning": Other(2),
            "cycle_length": Other(5),
            "init_step_size": Other(1e-2),
            "exploration_ratio": Other(0.5),
            "preconditioner": RMSPROP,
        },
    ),
    "SNGP": (
        {"output_dim": 3, "gp_hidden_features": 8},
        {
            "output_dim": Other(4),
            "gp_hidden_features": Other(9),
            "normalize_input": Other(True),
            "ridge_penalty": Other(5.0),
            "momentum": Refused(0.9, "momentum is 0.9"),
            "mean_field_factor": Other(3.0),
        },
    ),
}


def run_method(kind: Any, /, **given: Any) -> Any:
    """Draws of a posterior after four epochs of two batches."""
    approximator = kind(**given)
    model = classifier(posterior_approximator=approximator)
    starts = {"map_fit_config": config()} if str(approximator) == "swag" else {}
    model.train(CLASSES, fit_config=config(4), **starts)
    return model.posterior.weights.weight_samples(seed=0).trainable


def run_train_with(approximator: Any) -> Any:
    model = classifier(posterior_approximator=approximator)
    model.train(CLASSES, fit_config=quiet(), map_fit_config=config())
    return model.posterior.laplace.covariance()


def weights(samples: Any) -> Any:
    return samples.trainable, samples.frozen, samples.center


TABLE = table(of_models())


@pytest.mark.parametrize(("name", "argument"), cases(TABLE))
def test_every_argument_acts(name: str, argument: str) -> None:
    check(name, TABLE[name], argument)
