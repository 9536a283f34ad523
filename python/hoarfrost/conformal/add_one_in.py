"""Full conformal sets of a Bayesian classifier without a second fit: add-one-in reweighting."""

from __future__ import annotations

from typing import Any

import numpy as np

from hoarfrost.conformal.level import rank


def add_one_in_sets(
    train_log_probs: np.ndarray, test_log_probs: np.ndarray, error: Any
) -> tuple[list[list[int]], np.ndarray]:
    """Conformal sets of a Bayesian model (Fong and Holmes, Conformal Bayesian Computation, 2021).

    With weights ``w_s ~ p(y | x, theta_s)``, draws of the posterior given n data points stand for
    the posterior given one more, ``(x, y)``. A label y is in the set where the probability of it
    under that posterior has a rank above ``error (n + 1)`` among those of the n + 1 labels.

    Parameters
    ----------
    train_log_probs : numpy.ndarray
        Log-probability of each of n labels under S draws, shape ``(S, n)``.
    test_log_probs : numpy.ndarray
        Log-probabilities of all classes at N points under the same draws, shape ``(S, N, C)``.
    error : float
        Between 0 and 1, both excluded.

    Returns
    -------
    tuple
        For each point its labels in ascending order, maybe none; and the effective sample sizes
        ``1 / sum_s w_s^2`` of the normalised weights, shape ``(N, C)``, from 1 to S.
    """
    num_train = train_log_probs.shape[1]
    least = num_train + 1 - rank(error, num_train, "all classes")
    largest = train_log_probs.max(axis=0)
    train = np.exp(train_log_probs - largest)
    sets: list[list[int]] = []
    sizes = np.empty(test_log_probs.shape[1:])
    for point in range(test_log_probs.shape[1]):
        log_p = test_log_probs[:, point]
        top = log_p.max(axis=0)
        weights = np.exp(log_p - top)
        total = weights.sum(axis=0)
        own = np.log(np.square(weights).sum(axis=0) / total) + top
        with np.errstate(divide="ignore"):  # a label that these weights say is impossible
            others = np.log(weights.T @ train / total[:, None]) + largest
        ranks = 1 + (others <= own[:, None]).sum(axis=1)
        sets.append(np.flatnonzero(ranks > least).tolist())
        sizes[point] = np.square(total) / np.square(weights).sum(axis=0)
    return sets, sizes
