"""Tuning with a model of the spectrum: the same maximum for fewer factorisations."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from versions import enable_x64

from hoarfrost import _core, fit_laplace
from hoarfrost.laplace.evidence import tuning
from hoarfrost.laplace.evidence.spectral_search import SpectralModel, quadrature
from hoarfrost.likelihood import Gaussian


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "independent", "full"])
def test_a_model_of_the_spectrum_ends_where_the_plain_search_does(monkeypatch, kind, noise):
    """With a quadrature of the spectrum, from any start: two evaluations, the same maximum."""
    if noise and kind != "full":
        pytest.skip("a last layer under Gaussian noise knows its eigenvalues")
    generator = np.random.default_rng(0)
    x = generator.standard_normal((400, 12)) @ generator.standard_normal((12, 40))
    x = (x + 0.3 * generator.standard_normal(x.shape)) / 4
    weights = 0.3 * generator.standard_normal((40, 3))
    options, y = {}, (x @ weights + generator.gumbel(size=(400, 3))).argmax(axis=1)
    if kind == "independent":
        options, y = {"likelihood": "poisson"}, generator.poisson(np.exp(0.1 * x @ weights))
        weights = 0.1 * weights

    params = {"w": weights}
    if kind == "full":  # a hidden layer is trainable too
        params = {"a": 0.5 * generator.standard_normal((40, 4)), "b": weights[:4]}

    def apply(params, inputs):
        if kind != "full":
            return inputs @ params["w"]
        return jnp.tanh(inputs @ params["a"]) @ params["b"]

    if noise:
        options, y = {"likelihood": Gaussian(0.7)}, x @ weights + generator.normal(size=(400, 3))
    with enable_x64(True):
        posterior = fit_laplace(apply, params, [(x, y)], progress=False, **options)
        if kind == "full":
            assert posterior.linearised.head is None
        results = []
        for large in (10**9, 0):
            monkeypatch.setattr(tuning, "_LARGE", large)
            for start in (1e-3, 1e3):
                mine = posterior.with_prior_precision(start)
                if noise:
                    mine.optimize_hyperparameters()
                else:
                    mine.optimize_prior_precision()
                assert mine.tuning.converged
                if large == 0:
                    # A small network is seen less well, and the noise moves with the prior.
                    assert mine.tuning.evaluations <= (5 if noise else 3)
                results.append(mine.prior_precision)
    np.testing.assert_allclose(results, results[0], rtol=2e-6)


def test_a_quadrature_is_exact_for_few_eigenvalues():
    rows = np.diag(np.sqrt(np.repeat([1.0, 4.0, 9.0], [10, 20, 30])))
    curvature = _core.FullCurvature(60)
    curvature.add_rows(rows)
    nodes, weights = quadrature(*curvature.spectrum(np.full(60, 2.0), 8))
    model = SpectralModel(65, nodes, weights)
    exact = np.append(np.diag(rows) ** 2 / 2, np.zeros(5))
    for x in (-2.0, 0.0, 3.0):
        # Eight vectors of signs see the trace of a diagonal matrix exactly.
        explained = np.sum(exact / (exact + np.exp(x)))
        assert model.explained(x) == pytest.approx(explained, rel=1e-10)
        assert model.log_det(x) == pytest.approx(np.sum(np.log(exact + np.exp(x))), rel=1e-10)
