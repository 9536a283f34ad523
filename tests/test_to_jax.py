"""A posterior as arrays and a JAX function: the same predictions for every likelihood."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import hoarfrost as hf
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood import Gaussian, HeteroscedasticGaussian

LIKELIHOODS = {
    "categorical": 3,
    "bernoulli": 2,
    "gaussian": 2,
    "poisson": 2,
    "heteroscedastic_gaussian": 2,
}
STRUCTURES = ("full", "dual", "kron", "diag")


class Net(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.outputs, name="head")(nn.tanh(nn.Dense(5, name="hidden")(x)))


def targets(name: str, generator: np.random.Generator, count: int) -> np.ndarray:
    match name:
        case "categorical":
            return generator.integers(0, 3, count)
        case "bernoulli":
            return generator.integers(0, 2, (count, 2))
        case "gaussian":
            return generator.normal(size=(count, 2)).astype(np.float32)
        case "poisson":
            return generator.poisson(2.0, (count, 2))
    return generator.normal(size=(count, 1)).astype(np.float32)


def posterior_of(
    name: str, structure: str, trainable: Any, **options: Any
) -> tuple[hf.Laplace, Any]:
    generator = np.random.default_rng(3)
    x = generator.normal(size=(40, 4)).astype(np.float32)
    model = Net(LIKELIHOODS[name])
    variables = model.init(jax.random.key(0), x[:1])
    likelihood: Any = name
    if name == "gaussian":
        likelihood = Gaussian((0.5, 0.7))
    if name == "heteroscedastic_gaussian":
        likelihood = HeteroscedasticGaussian()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = hf.fit_laplace(
            model,
            variables,
            [(x, targets(name, generator, 40))],
            trainable=trainable,
            likelihood=likelihood,
            hessian_structure=structure,
            prior_precision=0.8,
            **options,
        )
    return fitted, generator.normal(size=(7, 4)).astype(np.float32)


def kernel_only(path: tuple[str, ...], value: Any) -> bool:
    return path[-1] == "kernel"


@pytest.mark.parametrize("trainable", ["last_layer", kernel_only], ids=["head", "kernels"])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_outputs_have_the_covariance_of_the_posterior(
    name: str, structure: str, trainable: Any
) -> None:
    posterior, x = posterior_of(name, structure, trainable)
    arrays, fn = posterior.to_jax("covariance", inputs=x)
    mean, covariance = jax.jit(fn)(arrays, posterior.merge(), x)
    truth = posterior.functional_covariance(x)
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(covariance, truth, rtol=0, atol=64 * eps * np.abs(truth).max())
    assert mean.shape == truth.shape[:2]
    assert fn.largest_difference is not None and fn.largest_difference < 64 * eps
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves(arrays))
    assert np.linalg.eigvalsh(np.asarray(covariance, np.float64)).min() > -eps * truth.max()


@pytest.mark.parametrize("trainable", ["last_layer", kernel_only], ids=["head", "kernels"])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", ["categorical", "bernoulli"])
def test_probit_gives_the_probabilities_of_predict(
    name: str, structure: str, trainable: Any
) -> None:
    posterior, x = posterior_of(name, structure, trainable)
    arrays, fn = posterior.to_jax(inputs=x)
    found = jax.jit(fn)(arrays, posterior.merge(), x)
    np.testing.assert_allclose(found, posterior.predict(x), atol=32 * np.finfo(np.float32).eps)
    assert fn.form == "probit" and fn.largest_difference < 32 * np.finfo(np.float32).eps


@pytest.mark.parametrize("trainable", ["last_layer", kernel_only], ids=["head", "kernels"])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_samples_give_the_mixture_over_the_posterior_s_own_draws(name: str, trainable: Any) -> None:
    posterior, x = posterior_of(name, "full", trainable)
    arrays, fn = posterior.to_jax("samples", n_samples=500, seed=5, inputs=x)
    found = jax.jit(fn)(arrays, posterior.merge(), x)
    draws = posterior.factor.deviations(5, 500)
    likelihood = posterior.linearised.likelihood
    outputs = np.concatenate([np.asarray(p.outputs) for p in posterior.linearised.walk(x)])
    rows = np.stack([jacobian(posterior, point) for point in x])
    each = outputs[None] + np.einsum("sp,bcp->sbc", draws, rows)
    mean = np.asarray(jax.vmap(likelihood.mean)(jnp.asarray(each, jnp.float32)))
    close = {"rtol": 2e-5, "atol": 2e-5}  # float32: sums over 500 draws of numbers near 1
    if name in ("categorical", "bernoulli"):
        np.testing.assert_allclose(found, mean.mean(axis=0), **close)
        assert fn.largest_difference is not None
        return
    noise = np.asarray(jax.vmap(likelihood.variance)(jnp.asarray(each, jnp.float32)))
    truth = mean.mean(axis=0), mean.var(axis=0), noise.mean(axis=0)
    for ours, exact in zip(found, truth, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-4, atol=2e-5)


def jacobian(posterior: hf.Laplace, point: np.ndarray) -> np.ndarray:
    """By jax.jacrev of the network as the user has it."""
    subset = posterior.linearised.subset

    def outputs(tree: Any) -> jax.Array:
        params = subset.partition.merge(tree, subset.frozen)
        return subset.network.evaluate(params, subset.mutable, point[None])[0]

    rows = jax.jacrev(outputs)(subset.trainable)
    count = posterior.linearised.num_outputs
    return np.concatenate([np.asarray(r).reshape(count, -1) for r in jax.tree.leaves(rows)], axis=1)


def test_separate_priors_and_noises_of_a_gaussian_head() -> None:
    posterior, x = posterior_of("gaussian", "full", "last_layer")
    other = posterior.with_prior_precision(
        jax.tree.map(
            lambda leaf: 1.0 + np.arange(leaf.size).reshape(leaf.shape), posterior_mean(posterior)
        )
    )
    for each in (posterior, other):
        arrays, fn = each.to_jax("covariance")
        _, covariance = fn(arrays, each.merge(), x)
        np.testing.assert_allclose(covariance, each.functional_covariance(x), rtol=1e-5, atol=1e-9)


def posterior_mean(posterior: hf.Laplace) -> Any:
    return posterior.linearised.trainable


def test_float32_roots_keep_what_a_covariance_in_float32_would_lose() -> None:
    # Features of very different sizes: the covariance's condition is 1e8.
    generator = np.random.default_rng(0)
    x = (generator.normal(size=(200, 6)) * np.logspace(-2, 2, 6)).astype(np.float32)
    params = {"kernel": jnp.zeros((6, 3)), "bias": jnp.zeros(3)}
    posterior = hf.fit_laplace(
        lambda p, v: v @ p["kernel"] + p["bias"], params, [(x, generator.integers(0, 3, 200))],
        prior_precision=1e-2,
    )  # fmt: skip
    arrays, fn = posterior.to_jax("covariance")
    _, covariance = fn(arrays, params, x)
    truth = posterior.functional_covariance(x)
    errors = np.abs(covariance - truth).max(axis=(1, 2)) / np.abs(truth).max(axis=(1, 2))
    assert errors.max() < 64 * np.finfo(np.float32).eps


@pytest.mark.parametrize("trainable", ["last_layer", kernel_only], ids=["head", "kernels"])
def test_one_program_for_any_number_of_points_after_export(trainable: Any) -> None:
    export = pytest.importorskip("jax.export")
    posterior, x = posterior_of("categorical", "full", trainable)
    for form in ("probit", "samples", "covariance"):
        arrays, fn = posterior.to_jax(form, n_samples=20)
        (batch,) = export.symbolic_shape("b")
        spec = jax.ShapeDtypeStruct((batch, 4), jnp.float32)
        program = export.export(jax.jit(fn))(arrays, posterior.merge(), spec)
        for count in (1, 5):
            ours = program.call(arrays, posterior.merge(), x[:count])
            theirs = jax.jit(fn)(arrays, posterior.merge(), x[:count])
            for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        # No array is in the program: it is given all of them.
        assert len(program.mlir_module()) < 100_000
    pytest.importorskip("flatbuffers")
    again = export.deserialize(program.serialize())
    assert again.call(arrays, posterior.merge(), x[:3])[0].shape == (3, 3)


def test_arguments_are_checked_before_anything_is_made() -> None:
    posterior, _ = posterior_of("gaussian", "full", "last_layer")
    with pytest.raises(InvalidArgumentError, match="'probit', which is for classes"):
        posterior.to_jax("probit")
    with pytest.raises(InvalidArgumentError, match="form is 'mean'"):
        posterior.to_jax("mean")
    with pytest.raises(InvalidArgumentError, match="dtype is 'int8'"):
        posterior.to_jax("samples", dtype="int8")
    with pytest.raises(InvalidArgumentError, match="rounds to float32"):
        posterior.to_jax("samples", dtype="float64")
    with pytest.raises(InvalidArgumentError, match="n_samples"):
        posterior.to_jax("samples", n_samples=0)
