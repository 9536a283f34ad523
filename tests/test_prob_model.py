"""The Fortuna-shaped front: training, posteriors, states, status and errors."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from hoarfrost.data import DataLoader
from hoarfrost.errors import (
    DataError,
    InvalidArgumentError,
    NonFiniteError,
    NotFittedError,
    SelectionError,
    ShapeError,
)
from hoarfrost.laplace import fit_network
from hoarfrost.laplace.evidence.bounded_search import bounded_maximum
from hoarfrost.prior import DiagonalGaussianPrior, IsotropicGaussianPrior
from hoarfrost.prob_model import (
    FitCallback,
    FitCheckpointer,
    FitConfig,
    FitHyperparameters,
    FitMonitor,
    FitOptimizer,
    FitProcessor,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    PosteriorState,
    ProbClassifier,
)
from hoarfrost.prob_model.posterior.laplace import laplace_posterior

RNG = np.random.default_rng(3)
X = RNG.normal(size=(30, 4)).astype(np.float32)
Y = np.argmax(X[:, :3] + 0.3 * RNG.normal(size=(30, 3)), axis=1)
TRAIN = DataLoader.from_array_data((X[:20], Y[:20]), batch_size=8)
VAL = DataLoader.from_array_data((X[20:], Y[20:]), batch_size=8)
# One object, so that its compiled step serves all tests.
ADAM = optax.adam(1e-2)
SGD = optax.sgd(1e-3)
QUIET = FitMonitor(verbose=False)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="head")(jnp.tanh(nn.Dense(5, name="body")(x)))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(5, name="body")(x))
        return nn.Dense(3, name="head")(nn.relu(x))


def head(path, value):
    return "trainable" if "head" in path else "frozen"


def config(n_epochs=3, freeze_fun=None, **parts):
    optimizer = FitOptimizer(method=ADAM, n_epochs=n_epochs, freeze_fun=freeze_fun)
    return FitConfig(optimizer=optimizer, **({"monitor": QUIET} | parts))


CURRENT = FitCheckpointer(start_from_current_state=True)


def trained(model=None, *, val=None, prior=None, approximator=None, freeze_fun=head, **options):
    approximator = approximator or LaplacePosteriorApproximator(tune_prior_log_variance=False)
    prob_model = ProbClassifier(
        model or Net(), prior=prior, posterior_approximator=approximator, **options
    )
    status = prob_model.train(
        TRAIN,
        val_data_loader=val,
        fit_config=config(freeze_fun=freeze_fun),
        map_fit_config=config(),
    )
    return prob_model, status


def leaves_equal(a, b):
    return all(
        np.array_equal(u, v) for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.fixture(scope="module")
def fitted():
    return trained()


@pytest.fixture(scope="module")
def map_fitted():
    prob_model = ProbClassifier(Net(), posterior_approximator=MAPPosteriorApproximator())
    return prob_model, prob_model.train(TRAIN, fit_config=config())


def test_status_of_laplace(fitted):
    _, status = fitted
    assert status["calib_status"] is None
    assert status["fit_status"]["map"]["loss"].shape == (3,)
    laplace = status["fit_status"]["laplace"]
    assert laplace["num_params"] == 5 * 3 + 3
    assert laplace["num_data"] == 20
    assert laplace["hessian_structure"] == "full"
    assert laplace["prior_precision"] == 1.0
    assert laplace["prior_log_variance"] == 0.0
    assert laplace["tuned"] == "none"
    assert np.isfinite(laplace["log_marginal_likelihood"])
    assert laplace["not_used"] == ("fit_config.optimizer.method", "fit_config.optimizer.n_epochs")


def test_every_leaf_is_what_map_left(fitted):
    laplace_params = fitted[0].posterior.state.get().params
    # A MAP model alone starts from another of Fortuna's keys: it is given the start.
    alone = ProbClassifier(Net(), posterior_approximator=MAPPosteriorApproximator())
    alone.posterior.state.put(PosteriorState(fitted[0].joint.init((4,)).params))
    alone.train(TRAIN, fit_config=config(checkpointer=CURRENT))
    map_params = alone.posterior.state.get().params
    assert laplace_params["model"]["params"].keys() == {"body", "head"}
    assert leaves_equal(laplace_params, map_params)
    head_tree = map_params["model"]["params"]["head"]
    expected = np.concatenate([head_tree["bias"], np.ravel(head_tree["kernel"])])
    np.testing.assert_array_equal(fitted[0].posterior.laplace.mean, expected.astype(np.float64))


def test_status_of_map(map_fitted):
    assert map_fitted[1]["fit_status"].keys() == {"loss"}
    assert map_fitted[1]["fit_status"]["loss"].shape == (3,)


def test_a_draw_moves_the_trainable_leaves_only(fitted):
    posterior = fitted[0].posterior
    key = jax.random.PRNGKey(5)
    draw, again = posterior.sample(key), posterior.sample(rng=key)
    assert leaves_equal(draw.params, again.params)
    assert draw.mutable is None
    assert draw.calib_params is None
    params = posterior.state.get().params["model"]["params"]
    drawn = draw.params["model"]["params"]
    assert leaves_equal(drawn["body"], params["body"])
    assert np.all(drawn["head"]["kernel"] != params["head"]["kernel"])
    assert drawn["head"]["kernel"].dtype == params["head"]["kernel"].dtype
    # Without a key each call takes the next one of the model's stream.
    assert not leaves_equal(posterior.sample().params, posterior.sample().params)


def test_draws_have_the_covariance_of_the_posterior(fitted):
    posterior = fitted[0].posterior
    samples = posterior.weight_samples(4000, jax.random.PRNGKey(0)).trainable
    tree = samples["model"]["params"]["head"]
    flat = np.concatenate([tree["bias"], tree["kernel"].reshape(4000, -1)], axis=1)
    root = np.linalg.cholesky(posterior.laplace.precision())
    white = (flat - posterior.laplace.mean) @ root
    # Entries of a sample covariance of n white draws have standard error sqrt(2 / n) at most.
    np.testing.assert_allclose(np.cov(white.T), np.eye(18), atol=5 * np.sqrt(2 / 4000))


def test_map_draws_are_the_map(map_fitted):
    posterior = map_fitted[0].posterior
    assert leaves_equal(posterior.sample().params, posterior.state.get().params)


def test_the_same_seed_is_the_same_model(fitted):
    again, status = trained()
    assert leaves_equal(again.posterior.state.get().params, fitted[0].posterior.state.get().params)
    assert leaves_equal(again.posterior.sample().params, trained()[0].posterior.sample().params)
    other, other_status = trained(seed=1)
    assert np.all(status["fit_status"]["map"]["loss"] != other_status["fit_status"]["map"]["loss"])
    assert other.joint.init((4,)).params.keys() == {"model"}


def test_statistics_are_kept_and_used():
    prob_model, _ = trained(Normed())
    state = prob_model.posterior.state.get()
    stats = state.mutable["model"]["batch_stats"]["BatchNorm_0"]
    assert np.all(stats["mean"] != 0)
    draw = prob_model.posterior.sample()
    assert leaves_equal(draw.mutable, state.mutable)


def test_tuning_by_the_evidence_without_validation_data():
    approximator = LaplacePosteriorApproximator()
    prob_model, status = trained(approximator=approximator)
    told = status["fit_status"]["laplace"]
    assert told["tuned"] == "evidence"
    laplace = prob_model.posterior.laplace
    best = laplace.log_marginal_likelihood()
    assert told["log_marginal_likelihood"] == best
    assert told["prior_precision"] == laplace.prior_precision
    for log_variance in np.linspace(-10, 10, 81):
        assert laplace.log_marginal_likelihood(np.exp(-log_variance)) <= best + 1e-2
    assert told["tuning"]["at_bound"] is False


def test_tuning_on_validation_data():
    prob_model, status = trained(val=VAL, approximator=LaplacePosteriorApproximator())
    told = status["fit_status"]["laplace"]
    assert told["tuned"] == "validation"
    assert status["fit_status"]["map"]["val_loss"].shape == (3,)
    laplace = prob_model.posterior.laplace

    def log_predictive(posterior):
        return np.mean(np.log(posterior.predict(X[20:])[np.arange(10), Y[20:]]))

    best = log_predictive(laplace)
    np.testing.assert_allclose(told["tuning"]["objective"], best, rtol=1e-6)
    for log_variance in np.linspace(-10, 10, 21):
        other = laplace.with_prior_precision(float(np.exp(-log_variance)))
        assert log_predictive(other) <= best + 1e-4
    low, high = told["tuning"]["bounds"]
    near = min(told["prior_log_variance"] - low, high - told["prior_log_variance"]) < 0.1
    assert told["tuning"]["at_bound"] is near


def test_without_memory_for_tuning_the_prior_stays(monkeypatch):
    def forgetful(*arguments, **options):
        return fit_network(*arguments, keep_curvature=False, **options)

    monkeypatch.setattr(laplace_posterior, "fit_network", forgetful)
    with pytest.warns(UserWarning, match="the prior variance was not tuned: there is no memory"):
        _, status = trained(approximator=LaplacePosteriorApproximator())
    assert status["fit_status"]["laplace"]["tuned"] == "none"
    assert status["fit_status"]["laplace"]["prior_precision"] == 1.0


class Rich(nn.Module):
    """Inputs by name, dropout, a tuple of outputs, attributes that do not hash."""

    sizes: list[int]

    @nn.compact
    def __call__(self, inputs, train):
        x = inputs["numbers"] + nn.Embed(3, 4)(inputs["words"])
        for size in self.sizes:
            x = nn.Dropout(0.2, deterministic=not train)(nn.relu(nn.Dense(size)(x)))
        return nn.Dense(3, name="head")(x), x


def test_inputs_by_name_dropout_and_tuples():
    words = np.arange(30) % 3
    data = DataLoader.from_array_data(({"numbers": X, "words": words}, Y), batch_size=8)
    prob_model = ProbClassifier(Rich([5]))
    prob_model.train(data, fit_config=config(freeze_fun=head), map_fit_config=config())
    assert prob_model.posterior.laplace.num_params == 18
    assert prob_model.predictive.mean(data.to_inputs_loader()).shape == (30, 3)
    assert np.isfinite(prob_model.predictive.log_prob(data)).all()


def test_the_prior_is_that_of_the_model():
    prob_model, status = trained(prior=IsotropicGaussianPrior(1.5))
    np.testing.assert_allclose(status["fit_status"]["laplace"]["prior_log_variance"], 1.5)
    np.testing.assert_allclose(prob_model.posterior.laplace.prior_precision, np.exp(-1.5))


def test_a_prior_for_each_parameter_with_frozen_ones():
    # Ravel order: body bias 5, body kernel 20, head bias 3, head kernel 15.
    log_var = np.linspace(-1, 1, 43)
    prior = DiagonalGaussianPrior(log_var)
    plain, _ = trained(prior=prior)
    laplace = plain.posterior.laplace
    flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(laplace.prior_precision)])
    np.testing.assert_allclose(flat, np.exp(-log_var[25:]))
    assert plain.posterior.sample() is not None
    tuned, status = trained(prior=prior, approximator=LaplacePosteriorApproximator())
    told = status["fit_status"]["laplace"]
    shift = told["tuning"]["prior_log_variance_shift"]
    flat = np.concatenate(
        [np.ravel(x) for x in jax.tree.leaves(tuned.posterior.laplace.prior_precision)]
    )
    np.testing.assert_allclose(flat, np.exp(-log_var[25:] - shift))


def test_all_parameters_and_diagonal_structure():
    approximator = LaplacePosteriorApproximator(False, hessian_structure="diag")
    prob_model, status = trained(approximator=approximator, freeze_fun=None)
    told = status["fit_status"]["laplace"]
    assert (told["num_params"], told["hessian_structure"]) == (43, "diag")
    precision = prob_model.posterior.laplace.precision()
    np.testing.assert_array_equal(precision, np.diag(np.diag(precision)))


def test_going_on_from_the_current_state(fitted):
    prob_model, _ = trained()
    before = prob_model.posterior.state.get().params
    status = prob_model.train(TRAIN, fit_config=config(checkpointer=CURRENT))
    assert status["fit_status"].keys() == {"laplace"}
    assert status["fit_status"]["laplace"]["num_params"] == 43
    assert leaves_equal(prob_model.posterior.state.get().params, before)
    status = prob_model.train(
        TRAIN, fit_config=config(), map_fit_config=config(checkpointer=CURRENT)
    )
    first = fitted[1]["fit_status"]["map"]["loss"]
    assert status["fit_status"]["map"]["loss"][0] < first[-1]


def test_a_state_from_a_map_model_starts_laplace(map_fitted):
    prob_model = ProbClassifier(Net())
    prob_model.posterior.state.put(map_fitted[0].posterior.state.get())
    prob_model.train(TRAIN, fit_config=config(freeze_fun=head, checkpointer=CURRENT))
    assert prob_model.posterior.laplace.num_params == 18


def test_freezing_a_map_at_random_values_warns():
    prob_model = ProbClassifier(Net(), posterior_approximator=MAPPosteriorApproximator())
    with pytest.warns(UserWarning, match="random initial values"):
        prob_model.train(TRAIN, fit_config=config(freeze_fun=head))
    start = prob_model.joint.init((4,)).params
    got = prob_model.posterior.state.get().params
    assert leaves_equal(got["model"]["params"]["body"], start["model"]["params"]["body"])
    assert not leaves_equal(got["model"]["params"]["head"], start["model"]["params"]["head"])


class Counter(FitCallback):
    def __init__(self):
        self.epochs = 0

    def training_epoch_end(self, state):
        self.epochs += 1
        return state


def error_rate(predictions, targets):
    return np.mean(predictions != targets)


def test_every_part_of_a_map_config_acts(map_fitted):
    prob_model = ProbClassifier(Net(), posterior_approximator=MAPPosteriorApproximator())
    counter = Counter()
    monitor = FitMonitor(
        metrics=(error_rate,),
        verbose=False,
        early_stopping_patience=1,
        early_stopping_monitor="val_error_rate",
        early_stopping_min_delta=2.0,
    )
    status = prob_model.train(
        TRAIN,
        VAL,
        fit_config=config(
            n_epochs=9,
            monitor=monitor,
            callbacks=[counter],
            hyperparameters=FitHyperparameters(max_grad_norm=1e-3, gradient_accumulation_steps=3),
            processor=FitProcessor(devices=0),
        ),
    )["fit_status"]
    assert status.keys() == {"loss", "error_rate", "val_loss", "val_error_rate"}
    # No error rate is better than the first by 2: it stops after one more.
    assert status["loss"].shape == (2,)
    assert counter.epochs == 2
    step = jax.tree.map(
        jnp.subtract, prob_model.posterior.state.get().params, prob_model.joint.init((4,)).params
    )
    assert np.linalg.norm(ravel_pytree(step)[0]) > 0


class Watched(nn.Module):
    note: Callable[[bool], None]

    @nn.compact
    def __call__(self, x):
        self.note(isinstance(x, jax.core.Tracer))
        return nn.Dense(3)(x)


def test_jit_can_be_switched_off():
    losses, traced = [], []
    for disable_jit in (False, True):
        seen: list[bool] = []
        prob_model = ProbClassifier(
            Watched(seen.append), posterior_approximator=MAPPosteriorApproximator()
        )
        settings = FitConfig(
            optimizer=FitOptimizer(method=SGD, n_epochs=1),
            monitor=QUIET,
            processor=FitProcessor(disable_jit=disable_jit),
        )
        losses.append(prob_model.train([(X, Y)], fit_config=settings)["fit_status"]["loss"])
        traced.append(seen[-1])
    # The last call of the network is the training step's.
    assert traced == [True, False]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_quiet_is_quiet(capfd):
    capfd.readouterr()
    trained()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_fields_that_laplace_does_not_use_are_named():
    prob_model = ProbClassifier(Net())
    unused = config(
        freeze_fun=head,
        monitor=FitMonitor(verbose=False, metrics=(error_rate,)),
        hyperparameters=FitHyperparameters(max_grad_norm=1.0),
        callbacks=[Counter()],
    )
    with pytest.warns(
        UserWarning,
        match=r"fit_config\.monitor\.metrics, fit_config\.hyperparameters\.max_grad_norm, "
        r"fit_config\.callbacks; set this in map_fit_config",
    ):
        prob_model.train(TRAIN, fit_config=unused, map_fit_config=config())


def test_a_loss_that_diverges_leaves_the_last_good_state():
    prob_model = ProbClassifier(Net(), posterior_approximator=MAPPosteriorApproximator())
    wild = FitConfig(optimizer=FitOptimizer(method=optax.sgd(1e38), n_epochs=3), monitor=QUIET)
    with pytest.raises(NonFiniteError, match=r"in epoch 1 \(step [12]\).*smaller learning rate"):
        prob_model.train(TRAIN, fit_config=wild)
    leaves = jax.tree.leaves(prob_model.posterior.state.get().params)
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_a_class_may_be_missing():
    rows = Y[:20] != 2
    loader = DataLoader.from_array_data((X[:20][rows], Y[:20][rows]))
    prob_model = ProbClassifier(Net())
    prob_model.train(loader, fit_config=config(freeze_fun=head), map_fit_config=config())
    assert prob_model.predictive.mean(VAL.to_inputs_loader()).shape == (10, 3)


def test_iterables_are_loaders_unless_they_are_used_up(fitted):
    batches = [(X[:8], Y[:8]), (X[8:16], Y[8:16]), (X[16:20], Y[16:20])]
    prob_model = ProbClassifier(Net())
    options = {"fit_config": config(freeze_fun=head), "map_fit_config": config()}
    status = prob_model.train(batches, **options)
    np.testing.assert_array_equal(
        status["fit_status"]["map"]["loss"], fitted[1]["fit_status"]["map"]["loss"]
    )
    with pytest.raises(DataError, match="one-shot"):
        ProbClassifier(Net()).train((batch for batch in batches), **options)


def spoiled(value, targets=Y):
    x = X.copy()
    x[9, 0] = value
    return DataLoader.from_array_data((x, targets), batch_size=8)


WIDE = Y.copy()
WIDE[3] = 7


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, InvalidArgumentError, "map_fit_config is None, but .* needs trained parameters"),
        (
            {"fit_config": config(checkpointer=CURRENT), "map_fit_config": config()},
            NotFittedError,
            "no state yet; call train",
        ),
        ({"fit_config": config(checkpointer=CURRENT)}, NotFittedError, "no state yet; call train"),
        ({"nonsense": 1}, TypeError, "unexpected keyword argument 'nonsense'"),
        ({"calib_data_loader": X}, InvalidArgumentError, "calib_data_loader is a ndarray"),
        ({"calib_config": 1}, UserWarning, "calib_config has no effect without calib_data"),
        ({"fit_config": 3}, InvalidArgumentError, "fit_config is a int; give a .*FitConfig"),
        (
            {"fit_config": config(freeze_fun=lambda p, v: "freeze"), "map_fit_config": config()},
            SelectionError,
            "freeze_fun returned 'freeze' for the parameter 'model/params/body/bias'",
        ),
        (
            {"fit_config": config(freeze_fun=lambda p, v: "l9" in p), "map_fit_config": config()},
            SelectionError,
            r"freeze_fun selects no parameter(.|\n)*model/params/head/kernel",
        ),
    ],
)
def test_what_cannot_be_trained_is_said_before_work(arguments, error, message):
    prob_model = ProbClassifier(Net())
    with pytest.raises(error, match=message):
        prob_model.train(TRAIN, **arguments)
    with pytest.raises(NotFittedError):
        prob_model.posterior.state.get()


@pytest.mark.parametrize(
    ("loader", "error", "message"),
    [
        (spoiled(np.nan), NonFiniteError, "inputs of batch 1 of train_data_loader hold nan"),
        (spoiled(0.0, WIDE), InvalidArgumentError, "targets of batch 0 hold the label 7"),
        (DataLoader.from_iterable([]), DataError, "empty"),
        (DataLoader.from_iterable([(X, Y[:5])]), DataError, "same number of data points"),
        (TRAIN.to_inputs_loader(), InvalidArgumentError, "train_data_loader is a InputsLoader"),
        (X, InvalidArgumentError, "train_data_loader is a ndarray; give a hoarfrost"),
        (5, InvalidArgumentError, "train_data_loader is a int"),
    ],
)
def test_data_that_cannot_be_used(loader, error, message):
    with pytest.raises(error, match=message):
        ProbClassifier(Net()).train(loader, fit_config=config(), map_fit_config=config())


def test_outputs_that_do_not_fit():
    class One(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(x)

    with pytest.raises(ShapeError, match=r"outputs have shape \(8, 1\).*at least 2 outputs"):
        ProbClassifier(One()).train(TRAIN, fit_config=config(), map_fit_config=config())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": lambda p, x: x}, "give an instance of a flax.linen.Module"),
        ({"model": Net()} | {"prior": 1.0}, "prior is 1.0"),
        ({"model": Net(), "posterior_approximator": "laplace"}, "posterior_approximator is 'lap"),
        ({"model": Net(), "output_calibrator": Net}, "output_calibrator is"),
        ({"model": Net(), "model_editor": 1}, "model_editor is 1"),
        ({"model": Net(), "seed": -1}, "seed is -1"),
    ],
)
def test_models_that_cannot_be_made(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        ProbClassifier(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tune_prior_log_variance": "yes"}, "tune_prior_log_variance is 'yes'"),
        ({"hessian_structure": "blocks"}, "hessian_structure is 'blocks'; give 'auto', 'full',"),
    ],
)
def test_approximators_that_cannot_be_made(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        LaplacePosteriorApproximator(**options)


def test_names_of_approximators():
    assert str(LaplacePosteriorApproximator()) == "laplace"
    assert str(MAPPosteriorApproximator()) == "map"


def test_map_says_that_a_map_config_has_no_effect(map_fitted):
    prob_model = ProbClassifier(Net(), posterior_approximator=MAPPosteriorApproximator())
    with pytest.warns(UserWarning, match="no effect on a MAP posterior.* give it as fit_config"):
        status = prob_model.train(TRAIN, fit_config=config(), map_fit_config=config(7))
    np.testing.assert_array_equal(status["fit_status"]["loss"], map_fitted[1]["fit_status"]["loss"])


def test_use_before_training():
    prob_model = ProbClassifier(Net())
    with pytest.raises(NotFittedError, match="not fitted yet; call train"):
        prob_model.posterior.sample()
    with pytest.raises(NotFittedError, match="not fitted yet; call train"):
        _ = prob_model.posterior.laplace
    with pytest.raises(NotFittedError, match="no state yet; call train"):
        prob_model.posterior.state.get()


def test_rng_that_is_no_key(fitted):
    with pytest.raises(InvalidArgumentError, match=r"rng is -3; give a key"):
        fitted[0].posterior.sample(rng=-3)
    assert fitted[0].posterior.sample(rng=jax.random.key(1)) is not None


def test_states_are_states(fitted):
    with pytest.raises(InvalidArgumentError, match="state is a dict; give a PosteriorState"):
        fitted[0].posterior.state.put({})


def test_bounded_maximum():
    found = bounded_maximum(lambda x: -((x - 1.3) ** 2), -10, 10)
    assert abs(found.argument - 1.3) < 0.05
    assert not found.at_edge
    assert found.evaluations < 22
    assert bounded_maximum(lambda x: x, -10, 10).at_edge
    assert bounded_maximum(lambda x: -x, -10, 10).argument == -10
    assert abs(bounded_maximum(lambda x: np.nan if x < 0 else -x, -10, 10).argument) < 0.1
