"""What holds memory of the core is refused by `pickle` and `copy`, with what to do instead."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from flax import linen as nn
from posteriors import STRUCTURES, Problem

from hoarfrost.errors import CopyError, HoarfrostError
from hoarfrost.prob_model import FitConfig, FitMonitor, FitOptimizer, ProbClassifier

COPIES = {"pickle": pickle.dumps, "copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_posterior_is_refused_and_lost_nothing(structure, way):
    posterior = Problem(structure, 60, 12).fit()
    variance = posterior.variance()
    with pytest.raises(CopyError, match=r"call fit_laplace again.*with_prior_precision") as caught:
        COPIES[way](posterior)
    assert isinstance(caught.value, HoarfrostError) and isinstance(caught.value, TypeError)
    np.testing.assert_array_equal(posterior.variance(), variance)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_a_fitted_model_is_refused_with_its_posterior(way):
    model = ProbClassifier(model=Net())
    COPIES[way](model)  # nothing of the core is in it yet
    config = FitConfig(monitor=FitMonitor(verbose=False), optimizer=FitOptimizer(n_epochs=1))
    data = [(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0]))]
    model.train(data, fit_config=FitConfig(monitor=config.monitor), map_fit_config=config)
    with pytest.raises(CopyError, match="can be neither copied nor pickled"):
        COPIES[way](model)
    with pytest.raises(CopyError):
        COPIES[way](model.posterior)
