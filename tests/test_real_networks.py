"""A ResNet18 with BatchNorm and a transformer encoder with dropout, and their Bayesian heads."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest
from flax import nnx

import hoarfrost
from hoarfrost import model as networks
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.prob_model import (
    FitCheckpointer,
    FitConfig,
    FitHyperparameters,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
)

NUM_CLASSES = 3
QUIET = FitMonitor(verbose=False)
ADAM = optax.adam(1e-2)


def images() -> tuple[Any, np.ndarray]:
    """Stripes down, stripes across and squares, in noise."""
    generator = np.random.default_rng(0)
    targets = generator.integers(0, NUM_CLASSES, 48).astype(np.int32)
    x = generator.normal(scale=0.3, size=(48, 16, 16, 1)).astype(np.float32)
    stripes = (np.arange(16) // 2 % 2).astype(np.float32)
    shapes = [np.tile(stripes, (16, 1)), np.tile(stripes[:, None], (1, 16)), np.zeros((16, 16))]
    shapes[2][4:12, 4:12] = 1
    return x + np.stack([shapes[t] for t in targets])[..., None].astype(np.float32), targets


def sequences() -> tuple[Any, np.ndarray]:
    """Tokens of which those of one class are the most, padded."""
    generator = np.random.default_rng(1)
    targets = generator.integers(0, NUM_CLASSES, 48).astype(np.int32)
    own = 1 + 3 * targets[:, None] + generator.integers(0, 3, (48, 8))
    ids = np.where(generator.random((48, 8)) < 0.7, own, generator.integers(1, 10, (48, 8)))
    mask = np.arange(8) < generator.integers(3, 9, (48, 1))
    return {"input_ids": (ids * mask).astype(np.int32), "attention_mask": mask}, targets


RESNET = {"output_dim": NUM_CLASSES, "num_filters": 4}
TRANSFORMER = {
    "output_dim": NUM_CLASSES,
    "vocab_size": 10,
    "max_length": 8,
    "width": 16,
    "depth": 1,
    "num_heads": 2,
    "dropout_rate": 0.1,
}
KINDS = {
    "resnet-linen": (images, lambda: networks.ResNet18(**RESNET)),
    "resnet-nnx": (
        images,
        lambda: networks.nnx.ResNet18(input_shape=(16, 16, 1), rngs=nnx.Rngs(0), **RESNET),
    ),
    "transformer-linen": (sequences, lambda: networks.TransformerEncoder(**TRANSFORMER)),
    "transformer-nnx": (
        sequences,
        lambda: networks.nnx.TransformerEncoder(rngs=nnx.Rngs(0), **TRANSFORMER),
    ),
}


@functools.cache
def trained(kind: str) -> ProbClassifier:
    """MAP of 15 epochs, and the posterior over the last layer, found by its structure."""
    data, make = KINDS[kind]
    model = ProbClassifier(
        make(),
        posterior_approximator=LaplacePosteriorApproximator(tune_prior_log_variance=False),
    )
    model.train(
        DataLoader.from_array_data(data(), batch_size=16, shuffle=True),
        fit_config=FitConfig(optimizer=FitOptimizer(freeze_fun="last_layer"), monitor=QUIET),
        map_fit_config=FitConfig(optimizer=FitOptimizer(method=ADAM, n_epochs=15), monitor=QUIET),
    )
    return model


def statistics(mutable: Any) -> list[np.ndarray]:
    """All that is no parameter and no random state."""
    found = jax.tree_util.tree_leaves_with_path(mutable)
    return [
        np.asarray(leaf)
        for path, leaf in found
        if any(getattr(k, "key", "") in ("batch_stats", "statistics") for k in path)
    ]


def same_bits(first: Any, second: Any) -> None:
    def check(a: Any, b: Any) -> None:
        if jax.numpy.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()

    jax.tree.map(check, first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_its_head_is_bayesian(kind: str) -> None:
    model, (inputs, targets) = trained(kind), KINDS[kind][0]()
    posterior, state = model.posterior.laplace, model.posterior.state.get()
    loader = InputsLoader.from_array_inputs(inputs, batch_size=16)
    by_map = np.asarray(model.likelihood.mean(state.params, loader, mutable=state.mutable))
    assert (by_map.argmax(axis=1) == targets).mean() > 0.85
    width = {"resnet": 4 * 2**3, "transformer": 16}[kind.split("-")[0]]
    assert posterior.num_params == (width + 1) * NUM_CLASSES and posterior.num_data == 48
    probabilities = posterior.predict(loader)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    # Doubt is only added: the head is as sure as MAP or less, up to rounding.
    assert probabilities.max(axis=1).mean() < by_map.max(axis=1).mean()
    before = posterior.log_marginal_likelihood()
    assert posterior.log_marginal_likelihood(0.5 * posterior.prior_precision) != before
    assert np.all(np.linalg.eigvalsh(posterior.precision()) > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_posterior_is_that_of_the_network_in_evaluation_mode(kind: str) -> None:
    """An oracle: features and probabilities of the MAP, put together by hand."""
    model, (inputs, _) = trained(kind), KINDS[kind][0]()
    subset = model.posterior.laplace.linearised.subset
    outputs = subset.network.evaluate(subset.params, subset.mutable, inputs)
    again = subset.network.evaluate(subset.params, subset.mutable, inputs)
    np.testing.assert_array_equal(outputs, again)  # no dropout
    p = np.asarray(jax.nn.softmax(outputs), np.float64)
    curvature = np.einsum("nc,cd->ncd", p, np.eye(NUM_CLASSES)) - np.einsum("nc,nd->ncd", p, p)
    posterior = model.posterior.laplace
    precision = posterior.precision() - posterior.prior_precision * np.eye(posterior.num_params)
    # The bias comes first, and its features are ones.
    scale = np.abs(precision).max()
    np.testing.assert_allclose(
        precision[:NUM_CLASSES, :NUM_CLASSES], curvature.sum(axis=0), rtol=0, atol=1e-5 * scale
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_frozen_does_not_move_when_the_head_is_trained_on(kind: str) -> None:
    """Parameters and statistics alike, bit for bit."""
    data, make = KINDS[kind]
    first = trained(kind).posterior.state.get()
    model = ProbClassifier(make(), posterior_approximator=MAPPosteriorApproximator())
    model.posterior.state.put(first)
    model.train(
        DataLoader.from_array_data(data(), batch_size=16),
        fit_config=FitConfig(
            optimizer=FitOptimizer(method=ADAM, n_epochs=2, freeze_fun="last_layer"),
            checkpointer=FitCheckpointer(start_from_current_state=True),
            hyperparameters=FitHyperparameters(gradient_accumulation_steps=2, max_grad_norm=1.0),
            monitor=QUIET,
        ),
    )
    second = model.posterior.state.get()

    def parts(state: Any) -> tuple[Any, Any]:
        params = state.params["model"]
        params = params.get("params", params)
        return params["dfe_subnet"], params["output_subnet"]

    same_bits(parts(first)[0], parts(second)[0])
    for old, new in zip(*(jax.tree.leaves(parts(s)[1]) for s in (first, second)), strict=True):
        assert np.any(np.asarray(old) != np.asarray(new))
    moved = statistics(first.mutable)
    assert bool(moved) == kind.startswith("resnet")
    same_bits(moved, statistics(second.mutable))


def small_resnet(flax: str) -> Any:
    """Two blocks, so that it is soon compiled."""
    options = {"stage_sizes": (1, 1), "output_dim": NUM_CLASSES, "num_filters": 2}
    if flax == "linen":
        return networks.ResNet(block_cls=networks.resnet.ResNetBlock, **options)
    block = networks.nnx.resnet.ResNetBlock
    rngs = nnx.Rngs(0)
    return networks.nnx.ResNet(block_cls=block, input_shape=(16, 16, 1), rngs=rngs, **options)


@pytest.mark.parametrize("flax", ["linen", "nnx"])
def test_statistics_of_trained_blocks_move_and_of_frozen_ones_do_not(flax: str) -> None:
    model = ProbClassifier(small_resnet(flax), posterior_approximator=MAPPosteriorApproximator())
    last = "ResNetBlock_1"

    def train(freeze_fun: Any, **options: bool) -> Any:
        model.train(
            DataLoader.from_array_data(images(), batch_size=16),
            fit_config=FitConfig(
                optimizer=FitOptimizer(method=ADAM, n_epochs=1, freeze_fun=freeze_fun),
                checkpointer=FitCheckpointer(**options),
                monitor=QUIET,
            ),
        )
        return model.posterior.state.get()

    first = train(None)
    second = train(
        lambda path, value: last in path or "output_subnet" in path, start_from_current_state=True
    )
    kept = changed = 0
    old = jax.tree_util.tree_leaves_with_path(first.mutable)
    for (path, before), after in zip(old, jax.tree.leaves(second.mutable), strict=True):
        if last in jax.tree_util.keystr(path):
            changed += 1
            assert np.any(np.asarray(before) != np.asarray(after)), path
        else:
            kept += 1
            same_bits(before, after)
    # Two numbers of each BatchNorm: of two and a shortcut in the last block, of three before it.
    assert (changed, kept) == (6, 6)


@pytest.mark.parametrize("kind", ["transformer-nnx", "resnet-nnx"])
def test_a_module_with_the_values_of_the_map_has_the_same_posterior(kind: str) -> None:
    model, (inputs, targets) = trained(kind), KINDS[kind][0]()
    module = KINDS[kind][1]()
    model.posterior.write_to(module)
    posterior = model.posterior.laplace
    own = hoarfrost.fit_laplace(
        module,
        None,
        DataLoader.from_array_data((inputs, targets), batch_size=16),
        trainable="last_layer",
        prior_precision=posterior.prior_precision,
        progress=False,
    )
    np.testing.assert_allclose(
        own.precision(), posterior.precision(), rtol=0, atol=1e-5 * np.abs(own.precision()).max()
    )
