"""Kronecker factors of layers: another library's numbers, where they are exact, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import hoarfrost as hf
from hoarfrost.errors import InvalidArgumentError, StructureError
from hoarfrost.likelihood import Gaussian, HeteroscedasticGaussian

REFERENCE = Path(__file__).parent / "reference" / "laplace_torch_structures.npz"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4)).astype(np.float32)
TARGETS: dict[str, tuple[Any, int, np.ndarray]] = {
    "categorical": ("categorical", 3, RNG.integers(0, 3, 30)),
    "bernoulli": ("bernoulli", 2, RNG.integers(0, 2, (30, 2))),
    "poisson": ("poisson", 2, RNG.poisson(2.0, (30, 2))),
    "gaussian": (Gaussian((0.5, 0.7)), 2, RNG.normal(size=(30, 2))),
    "heteroscedastic": (HeteroscedasticGaussian(), 2, RNG.normal(size=(30, 1))),
}


class Net(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.tanh(nn.Dense(5, name="first")(x))
        x = nn.gelu(nn.Dense(6, use_bias=False, name="second")(x))
        return nn.Dense(self.outputs, name="last")(x)


def fitted(name: str, trainable: Any = None, count: int = 30, **options: Any) -> hf.Laplace:
    likelihood, outputs, targets = TARGETS[name]
    model = Net(outputs)
    variables = model.init(jax.random.key(0), X[:1])
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
    x = X[:count].astype(np.float64)
    return hf.fit_laplace(
        model,
        variables,
        [(x, targets[:count])],
        likelihood=likelihood,
        trainable=trainable,
        progress=False,
        **{"hessian_structure": "kron", "prior_precision": 0.8, **options},
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("structure", ["kron", "diag", "full"])
@pytest.mark.parametrize("part", ["head", "net"])
def test_numbers_of_laplace_torch(part: str, structure: str) -> None:
    reference = np.load(REFERENCE)
    params = {name: jnp.asarray(reference[f"{name}_kernel"]) for name in ("hidden", "head")}
    posterior = hf.fit_laplace(
        lambda params, x: jnp.tanh(x @ params["hidden"]) @ params["head"],
        params,
        [(reference["x"], reference["y"])],
        trainable=None if part == "net" else ["head"],
        hessian_structure=structure,
        progress=False,
    )
    np.testing.assert_allclose(posterior.log_likelihood, reference["loglik"], rtol=1e-12)
    for place, tau in enumerate(reference["taus"]):
        now = posterior.with_prior_precision(float(tau))
        evidence = reference[f"{part}_{structure}_logev"][place]
        np.testing.assert_allclose(now.log_marginal_likelihood(), evidence, rtol=1e-10)
        variance = reference[f"{part}_{structure}_f_var"][place]
        np.testing.assert_allclose(
            now.functional_covariance(reference["x_test"]),
            variance,
            rtol=0,
            atol=1e-8 * variance.max(),
        )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", TARGETS)
def test_one_point_has_the_blocks_of_the_full_curvature(name: str) -> None:
    """Then both factors are of that point alone: exact within a layer, and nothing between."""
    whole = fitted(name, None, 1).precision()
    expected = fitted(name, None, 1, hessian_structure="full").precision()
    block_of = np.repeat([0, 1, 2], [25, 7 * TARGETS[name][1], 30])  # first, last, second
    expected[block_of[:, None] != block_of] = 0
    np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-12)
    for layer in ("first", "second", "last"):
        kron, full = (fitted(name, [layer], 1, hessian_structure=s) for s in ("kron", "full"))
        np.testing.assert_allclose(kron.precision(), full.precision(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            kron.log_marginal_likelihood(), full.log_marginal_likelihood(), rtol=1e-12
        )


@pytest.mark.usefixtures("x64")
def test_a_gaussian_head_is_exact_at_any_number_of_points() -> None:
    kron, full = (fitted("gaussian", ["last"], hessian_structure=s) for s in ("kron", "full"))
    tree = jax.tree.map(
        lambda leaf: np.linspace(1, 2, leaf.size).reshape(leaf.shape), kron.linearised.trainable
    )
    for prior in (0.8, tree):
        one, other = kron.with_prior_precision(prior), full.with_prior_precision(prior)
        np.testing.assert_array_equal(one.precision(), other.precision())
        assert one.log_marginal_likelihood() == other.log_marginal_likelihood()


@pytest.mark.usefixtures("x64")
def test_a_linear_gaussian_model_in_hidden_layers() -> None:
    """Where ``G`` is the same at every point, a hidden layer is one product, too."""
    kernels = {"first": RNG.normal(size=(4, 3)), "last": RNG.normal(size=(3, 2))}

    def network(params: Any, x: jax.Array) -> jax.Array:
        return x @ params["first"] @ params["last"]

    x, y = X.astype(np.float64), TARGETS["gaussian"][2]
    kron, full = (
        hf.fit_laplace(
            network,
            jax.tree.map(jnp.asarray, kernels),
            [(x, y)],
            likelihood=Gaussian(0.5),
            trainable=["first"],
            hessian_structure=structure,
            progress=False,
        )
        for structure in ("kron", "full")
    )
    np.testing.assert_allclose(kron.precision(), full.precision(), rtol=1e-12, atol=1e-11)


@pytest.mark.usefixtures("x64")
def test_the_bits_do_not_depend_on_what_was_asked_before() -> None:
    tree = {"params": {"last": {"kernel": 0.3, "bias": 0.7}}}
    plain, used = (fitted("categorical", ["last"], prior_precision=tree) for _ in range(2))
    for factor in (3.0, 0.1, 1 / 7, 1.0):
        other = jax.tree.map(lambda tau, factor=factor: factor * tau, tree)
        used.log_marginal_likelihood(other)
        fresh = fitted("categorical", ["last"], prior_precision=other)
        assert used.log_marginal_likelihood(other) == fresh.log_marginal_likelihood()
        np.testing.assert_array_equal(
            used.with_prior_precision(other).covariance(), fresh.covariance()
        )
    assert used.log_marginal_likelihood() == plain.log_marginal_likelihood()


def test_nnx_layers() -> None:
    model = nnx.Sequential(
        nnx.Linear(4, 5, rngs=nnx.Rngs(0)), jnp.tanh, nnx.Linear(5, 3, rngs=nnx.Rngs(1))
    )
    posterior = hf.fit_laplace(
        model,
        None,
        [(X, TARGETS["categorical"][2])],
        hessian_structure="kron",
        progress=False,
    )
    assert posterior.num_params == 43
    assert np.count_nonzero(posterior.precision()) == 25**2 + 18**2
    other = nnx.Sequential(
        nnx.Linear(4, 5, rngs=nnx.Rngs(2)), jnp.tanh, nnx.Linear(5, 3, rngs=nnx.Rngs(3))
    )
    draw = jax.tree.map(lambda leaf: leaf[0], posterior.sample(0, 1))
    posterior.write_to(other, draw)
    expected = jax.tree.leaves(posterior.merge(draw))
    written = jax.tree.leaves(nnx.state(other, nnx.Param))
    assert all(np.array_equal(*pair) for pair in zip(written, expected, strict=True))


def test_leaves_that_are_no_layers_are_named() -> None:
    def tied(params: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ params["kernel"]) @ params["kernel"].T @ params["last"]

    def looped(params: Any, x: jax.Array) -> jax.Array:
        x = jax.lax.fori_loop(0, 2, lambda _, x: jnp.tanh(x @ params["kernel"]), x)
        return x @ params["last"]

    params = {"kernel": jnp.eye(4), "last": jnp.ones((4, 3))}
    for network in (tied, looped):
        with pytest.raises(StructureError, match="leaf 'kernel' is no kernel of a Dense layer"):
            hf.fit_laplace(
                network,
                params,
                [(X, TARGETS["categorical"][2])],
                hessian_structure="kron",
                progress=False,
            )


def test_a_prior_that_factors_cannot_take_is_an_error_before_the_pass() -> None:
    def batches() -> Any:
        yield X, TARGETS["categorical"][2]
        raise AssertionError("the data were gone over")

    prior = {"params": {"first": {"kernel": np.linspace(1, 2, 20).reshape(4, 5), "bias": 1.0}}}
    model = Net(3)
    with pytest.raises(InvalidArgumentError, match="one number a leaf"):
        hf.fit_laplace(
            model,
            model.init(jax.random.key(0), X[:1]),
            hf.data.DataLoader.from_callable_iterable(batches),
            trainable=["first"],
            hessian_structure="kron",
            prior_precision=prior,
            progress=False,
        )
