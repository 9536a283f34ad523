"""A posterior of each structure at any size, and every verb that takes long."""

from __future__ import annotations

import jax
import numpy as np

import hoarfrost
from hoarfrost.likelihood import Gaussian


def softmax_layer(params, x):
    return x @ params["w"] + params["b"][None, :]


def two_layers(params, x):
    hidden = jax.nn.tanh(x @ params["first"])
    return hidden @ params["w"] + params["b"][None, :]


def weights(generator, *shape):
    return (0.3 * generator.standard_normal(shape)).astype(np.float32)


def last_layer(path, value):
    return path[-1] in ("w", "b")


class Problem:
    """A network with P parameters or nearly, its data, and how it is fitted."""

    def __init__(self, structure, size, num_data=64):
        generator = np.random.default_rng(5)
        self.options = {"progress": False}
        self.num_outputs = outputs = 6
        kind, _, form = structure.partition(" ")
        if kind in ("full", "diag") and form != "layer":  # any parameters
            width = max(2, size // (8 + outputs))
            self.apply = two_layers
            self.params = {
                "first": weights(generator, 8, width),
                "w": weights(generator, width, outputs) / width**0.5,
                "b": weights(generator, outputs),
            }
        else:
            width = max(2, size // outputs - 1)
            self.apply = softmax_layer
            self.params = {"w": weights(generator, width, outputs) / width**0.5}
            self.params["b"] = weights(generator, outputs)
        columns = self.params.get("first", self.params["w"]).shape[0]
        self.x = generator.standard_normal((num_data, columns)).astype(np.float32)
        self.y = generator.integers(0, outputs, num_data)
        if kind == "bernoulli":
            self.options["likelihood"] = "bernoulli"
            self.y = generator.integers(0, 2, (num_data, outputs))
        if kind == "gaussian":
            noise = 0.5 if form != "separate" else tuple(0.3 + 0.1 * i for i in range(outputs))
            self.options["likelihood"] = Gaussian(noise)
            self.y = generator.standard_normal((num_data, outputs)).astype(np.float32)
        if form == "separate":
            self.options["prior_precision"] = {
                "w": np.broadcast_to(1.0 + np.arange(outputs), self.params["w"].shape),
                "b": 1.0 + np.arange(outputs),
            }
        self.options["hessian_structure"] = "diag" if kind == "diag" else "full"
        if form == "in place":
            self.options["keep_curvature"] = False

    def fit(self, batches=1):
        data = [(self.x, self.y)] * batches
        return hoarfrost.fit_laplace(self.apply, self.params, data, **self.options)


STRUCTURES = (
    "softmax",
    "bernoulli",
    "gaussian",
    "gaussian separate",
    "full",
    "full in place",
    "diag",
    "diag layer",
)


def tuned(problem, posterior):
    value = posterior.optimize_prior_precision()
    return np.array([value, posterior.tuning.evidence])


VERBS = {
    "fit": lambda p, _: p.fit().variance(),
    "variance": lambda p, posterior: posterior.variance(),
    "evidence": lambda p, posterior: np.array(posterior.log_marginal_likelihood(3.0)),
    "other prior": lambda p, posterior: posterior.with_prior_precision(3.0).variance(),
    "tune": tuned,
    "predict": lambda p, posterior: np.asarray(posterior.predict(p.x)),
    "mc": lambda p, posterior: posterior.log_prob([(p.x, p.y)], "mc", 20, 1),
    "nn": lambda p, posterior: posterior.log_prob([(p.x, p.y)], "nn", 5, 1),
    "sample": lambda p, posterior: np.concatenate(
        [np.ravel(leaf) for leaf in jax.tree.leaves(posterior.sample(1, 7))]
    ),
    "functional variance": lambda p, posterior: posterior.functional_variance(p.x),
    "functional covariance": lambda p, posterior: posterior.functional_covariance(p.x),
    "joint": lambda p, posterior: posterior.functional_covariance(p.x, joint=True),
    "covariance": lambda p, posterior: posterior.covariance(),
    "precision": lambda p, posterior: posterior.precision(),
}
