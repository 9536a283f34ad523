"""Every property of a `WeightPosterior`, for each line of the table of `posterior_cases`.

The oracle is plain NumPy in float64 over the draws that `sample` gives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from posterior_cases import ATOL, DRAWS, LISTED, POINTS, RTOL, SIZE, TABLE, Case, X, fitted
from same_network import arrays, network, outputs_of, plain
from scipy import special

import hoarfrost
from hoarfrost.errors import HoarfrostError, InvalidArgumentError


@pytest.fixture(scope="module", params=TABLE, ids=" ".join)
def case(request: pytest.FixtureRequest) -> Case:
    """Each line of the table, with all of its properties before the next."""
    return fitted(*request.param)


def _same(one: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


def _close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=ATOL * np.abs(expected).max())


# --- draws ---------------------------------------------------------------------------------------


def test_draws_are_like_the_trainable_tree_and_set_by_the_seed(case: Case) -> None:
    posterior = case.posterior
    like = posterior.subset.trainable
    drawn = posterior.sample(3, DRAWS)
    assert jax.tree.structure(drawn) == jax.tree.structure(like)
    for leaf, one, mean in zip(*map(jax.tree.leaves, (drawn, like, posterior.mean)), strict=True):
        assert leaf.shape == (DRAWS, *one.shape) and leaf.dtype == one.dtype == np.float32
        assert np.shape(mean) == one.shape
    assert jax.tree.leaves(posterior.sample(3))[0].shape[0] == 1
    _same(drawn, posterior.sample(3, DRAWS))
    _same(drawn, posterior.sample(jax.random.PRNGKey(3), DRAWS))
    if case.method != "map":
        others = posterior.sample(4, DRAWS)
        assert any(
            not np.array_equal(a, b)
            for a, b in zip(*map(jax.tree.leaves, (drawn, others)), strict=True)
        )
    count = sum(leaf.size for leaf in jax.tree.leaves(like))
    assert posterior.num_params == count and posterior.num_data == SIZE


def test_listed_values_come_once_each_and_drawn_ones_are_among_them(case: Case) -> None:
    posterior = case.posterior
    listed = posterior.distribution.listed
    assert (listed.size if listed else None) == LISTED.get(case.method)
    assert posterior.weight_samples().size == LISTED.get(case.method, 100)
    assert posterior.weight_samples(DRAWS).size == DRAWS
    if listed is None:
        return
    for leaf, all_of, mean in zip(
        *map(jax.tree.leaves, (posterior.sample(1, 2 * DRAWS), listed.trainable, posterior.mean)),
        strict=True,
    ):
        rows = {np.asarray(one).tobytes() for one in all_of}
        assert {np.asarray(one).tobytes() for one in leaf} <= rows
        np.testing.assert_allclose(mean, np.mean(np.asarray(all_of, np.float64), axis=0), rtol=1e-6)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(listed.trainable))
    assert posterior.nbytes == held


def test_draws_have_the_moments_of_their_distribution(case: Case) -> None:
    distribution = case.posterior.distribution
    if distribution.listed is not None:
        return
    drawn = np.concatenate(
        [
            np.asarray(leaf, np.float64).reshape(4000, -1)
            for leaf in jax.tree.leaves(case.posterior.sample(0, 4000))
        ],
        axis=1,
    )
    flat = [
        np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])
        for tree in (distribution.mean, getattr(distribution, "std", None))
        if tree is not None
    ]
    if case.method == "sngp":
        covariance = distribution.laplace.covariance()
    else:
        covariance = np.diag(flat[1] ** 2)
        low_rank = getattr(distribution, "deviations", None)
        if low_rank is not None:
            rows = np.concatenate(
                [
                    np.asarray(leaf, np.float64).reshape(len(leaf), -1)
                    for leaf in jax.tree.leaves(low_rank)
                ],
                axis=1,
            )
            covariance += rows.T @ rows
    std = np.sqrt(np.diag(covariance))
    z = (drawn - flat[0]) / std
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=5 / np.sqrt(4000))
    expected = covariance / np.outer(std, std)
    np.testing.assert_allclose(z.T @ z / 4000, expected, atol=5 * np.sqrt(2 / 4000))


def test_merge_gives_the_full_parameters(case: Case) -> None:
    posterior = case.posterior
    one = jax.tree.map(lambda leaf: leaf[2], posterior.sample(5, 3))
    given = network(case.kind, case.params)[1]
    for tree, own in ((posterior.merge(one), one), (posterior.merge(), posterior.mean)):
        if case.method == "sngp":
            np.testing.assert_array_equal(tree["gp"]["kernel"], own["gp"]["kernel"])
            tree = tree["model"]
        else:
            for layer, leaves in plain(own).items():
                for name, leaf in leaves.items():
                    np.testing.assert_array_equal(plain(tree)[layer][name], leaf)
        if given is not None:
            assert jax.tree.structure(tree) == jax.tree.structure(given)
        kept = {"all": (), "head": ("body",), "none": ("body", "head")}[case.chosen]
        for layer in kept:
            _same(plain(tree)[layer], jax.tree.map(np.asarray, case.params[layer]))
    with pytest.raises(HoarfrostError):
        posterior.merge({"nothing": np.zeros(3)})


# --- predictions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [None, DRAWS])
def test_predictions_are_means_over_the_draws(case: Case, count: int | None) -> None:
    posterior, row = case.posterior, case.row
    outputs = case.outputs(case.draws(count, 8), X[:POINTS])
    found = posterior.predict(X[:POINTS], count, seed=8)
    if row.variance is None:
        _close(found, row.mean(outputs).mean(axis=0))
        with pytest.raises(InvalidArgumentError, match="predict_regression is for"):
            posterior.predict_regression(X[:POINTS])
        return
    mean, variance = found
    epistemic, noise = row.mean(outputs).var(axis=0), row.variance(outputs).mean(axis=0)
    _close(mean, row.mean(outputs).mean(axis=0))
    _close(variance, epistemic + noise)
    parts = posterior.predict_regression(X[:POINTS], count, seed=8)
    _close(parts.mean, mean)
    _close(parts.noise_variance, noise)
    np.testing.assert_allclose(
        parts.epistemic_variance, epistemic, rtol=1e-3, atol=1e-5 * np.abs(outputs).max() ** 2
    )


def test_log_densities_are_those_of_the_mixture(case: Case) -> None:
    for count in (None, DRAWS):
        draws = case.draws(count, 2)
        each = case.row.log_prob(case.outputs(draws), case.row.targets)
        expected = special.logsumexp(each, axis=0) - np.log(len(each))
        found = case.posterior.log_prob(case.loader, count, seed=2)
        assert found.shape == (SIZE,)
        np.testing.assert_allclose(found, expected, rtol=RTOL, atol=2e-4)


def test_the_covariance_of_outputs_is_that_of_the_draws(case: Case) -> None:
    outputs = case.outputs(case.draws(DRAWS, 6), X[:POINTS])
    centred = outputs - outputs.mean(axis=0)
    expected = np.einsum("snc,snd->ncd", centred, centred) / DRAWS
    found = case.posterior.functional_covariance(X[:POINTS], DRAWS, seed=6)
    assert found.shape == expected.shape and found.dtype == np.float64
    # Outputs are rounded before they are centred.
    rounding = 1e-5 * np.abs(outputs).max() * np.sqrt(expected.max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding + 1e-10)
    variance = case.posterior.functional_variance(X[:POINTS], DRAWS, seed=6)
    np.testing.assert_array_equal(variance, np.diagonal(found, axis1=1, axis2=2))


def test_served_arrays_give_what_predict_gives(case: Case) -> None:
    arrays_of, served = case.posterior.to_jax(DRAWS, seed=9)
    found = jax.jit(served)(arrays_of, case.posterior.merge(), X[:POINTS])
    expected = case.posterior.predict(X[:POINTS], DRAWS, seed=9)
    if case.row.variance is None:
        _close(found, expected)
    else:
        mean, epistemic, noise = found
        _close(mean, expected[0])
        np.testing.assert_allclose(epistemic + noise, expected[1], rtol=2e-4, atol=1e-6)


# --- files and modules ---------------------------------------------------------------------------


def test_a_file_gives_the_same_bits(case: Case, tmp_path: Path) -> None:
    case.posterior.save(tmp_path / "posterior")
    again = hoarfrost.load_posterior(tmp_path / "posterior", model=case.model)
    for count in (None, DRAWS):
        _same(case.posterior.predict(X, count, 1), again.predict(X, count, 1))
        _same(case.posterior.log_prob(case.loader, count, 1), again.log_prob(case.loader, count, 1))
    _same(case.posterior.sample(2, 5), again.sample(2, 5))
    _same(case.posterior.merge(), again.merge())
    assert repr(again) == repr(case.posterior)
    _same(case.posterior.status["loss"], again.status["loss"])
    assert jax.tree.leaves(again.example) == jax.tree.leaves(case.posterior.example)


def test_values_are_written_back_into_an_nnx_module(case: Case) -> None:
    one = jax.tree.map(lambda leaf: leaf[1], case.posterior.sample(4, 2))
    if case.kind != "nnx":
        with pytest.raises(InvalidArgumentError, match="give an NNX module"):
            case.posterior.write_to(case.model)
        return
    module = network("nnx", arrays(case.row.outputs, seed=99))[0]
    for tree, merged in ((one, case.posterior.merge(one)), (None, case.posterior.merge())):
        case.posterior.write_to(module, tree)
        np.testing.assert_allclose(
            module(X), outputs_of(plain(merged), X), rtol=RTOL, atol=ATOL * 10
        )
        _same(plain(nnx.state(module, nnx.Param)), plain(merged))


# --- seeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["swag", "advi", "ivon", "sghmc", "cyclical_sgld", "sngp"])
def test_the_same_seed_gives_the_same_bits_and_another_one_others(method: str) -> None:
    line = next(line for line in TABLE if line[0] == method)
    first = fitted(*line).posterior
    again, other = (fitted.__wrapped__(*line, seed=seed).posterior for seed in (0, 1))
    means = [jax.tree.leaves(one.mean) for one in (first, again, other)]
    assert all(map(np.array_equal, means[0], means[1]))
    assert not any(map(np.array_equal, means[0], means[2]))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p: p.sample(0, 0), "n_samples is 0"),
        (lambda p: p.sample("a"), "seed is 'a'"),
        (lambda p: p.predict(X, 0), "n_samples is 0"),
        (lambda p: p.predict(X[:0]), "inputs"),
        (lambda p: p.predict(X[:, :2]), "inputs|shape"),
        (lambda p: p.predict(X * np.nan), "inputs"),
        (lambda p: p.predict(None), "inputs"),
        (lambda p: p.log_prob(X), "data_loader"),
        (lambda p: p.functional_covariance(X, 2.5), r"n_samples is 2\.5"),
        (lambda p: p.save(""), "path"),
        (lambda p: p.save(3), "path"),
    ],
)
def test_wrong_calls_are_errors_that_name_the_argument(call: Any, said: str) -> None:
    posterior = fitted("swag", "linen", "softmax", "all").posterior
    with pytest.raises(HoarfrostError, match=said):
        call(posterior)
