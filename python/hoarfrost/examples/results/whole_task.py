"""Whole networks against heads: is more than the last layer worth it on the signals?"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn

import hoarfrost
from hoarfrost import methods
from hoarfrost.data import DataLoader
from hoarfrost.examples.classifier import Classifier
from hoarfrost.examples.results.scores import Row, Scores, class_scores
from hoarfrost.examples.signals import BATCH, MAP, NUM_TEST, SHOWN
from hoarfrost.examples.signals_data import NUM_CLASSES, make_signals

HEAD, KRON, FULL = "last layer, full", "all, kron", "all, full"
BASELINES = (MAP, HEAD)
_EPOCHS, _QUICK_EPOCHS = 100, 5
_QUICK_LABELS, _QUICK_TEST = 100, 200


class Narrow(nn.Module):  # type: ignore[misc]
    """Two hidden layers of 48: few enough parameters for a full covariance of all of them."""

    width: int = 48

    @nn.compact  # type: ignore
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Logits, shape ``(B, 10)``."""
        for _ in range(2):
            inputs = nn.relu(nn.Dense(self.width)(inputs))
        logits: jax.Array = nn.Dense(NUM_CLASSES, name="head")(inputs)
        return logits


def narrow(seed: int, quick: bool) -> Scores:
    """4,810 parameters: the last layer, all by Kronecker factors, all by a full covariance."""
    return _scores(Narrow(8) if quick else Narrow(), {KRON: "kron", FULL: "full"}, seed, quick)


def wide(seed: int, quick: bool) -> Scores:
    """44,682 parameters, too many for a full covariance."""
    return _scores(Classifier(NUM_CLASSES), {KRON: "kron"}, seed, quick)


def _scores(network: nn.Module, structures: dict[str, Any], seed: int, quick: bool) -> Scores:
    """Score each posterior on the test signals, its prior precisions those of most evidence."""
    inputs, targets = make_signals(SHOWN + NUM_TEST, seed)
    count, size = (_QUICK_LABELS, _QUICK_TEST) if quick else (SHOWN, NUM_TEST)
    test, truth = inputs[-size:], targets[-size:]
    train = (inputs[:count], targets[:count])
    loader = DataLoader.from_array_data(train, batch_size=BATCH, shuffle=True, seed=seed)
    trained = methods.fit_map(
        network,
        network.init(jax.random.PRNGKey(seed), inputs[:1]),
        loader,
        optimizer=_ADAM,
        n_epochs=_QUICK_EPOCHS if quick else _EPOCHS,
        seed=seed,
        progress=False,
    )
    params = trained.merge()
    found = {MAP: np.asarray(jax.nn.log_softmax(network.apply(params, test)))}
    chosen: dict[str, dict[str, Any]] = {HEAD: {"trainable": "last_layer"}}
    chosen |= {name: {"hessian_structure": own} for name, own in structures.items()}
    for name, options in chosen.items():
        posterior = hoarfrost.fit_laplace(network, params, loader, progress=False, **options)
        posterior.optimize_prior_precision("layerwise")
        found[name] = posterior.predict(test, link="probit", log=True)
    scores: dict[Row, dict[str, float]] = {}
    for name, log_probs in found.items():
        for metric, value in class_scores(log_probs, truth).items():
            if metric in ("NLL", "ECE", "accuracy"):
                scores.setdefault(Row(metric, f"{count:,} labels"), {})[name] = value
    return scores


_ADAM = optax.adam(3e-3)
