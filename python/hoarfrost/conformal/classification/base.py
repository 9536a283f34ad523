"""What conformal classifiers have in common: sets of labels from scores, split or over folds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from hoarfrost.checks import is_whole, plain, shown
from hoarfrost.conformal.checked import check_same_length, folds, labels, on_host, probabilities
from hoarfrost.conformal.level import rank, score_quantile
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.metric.arrays import as_classes


class ConformalClassifier(ABC):
    """A classifier's probabilities made into sets of labels that hold the true one often enough.

    In every method N is the number of test points, C that of classes and n that of validation
    points. Probabilities are rows that add up to 1, targets are classes from 0 to C - 1; both may
    be of any real dtype, of NumPy, JAX or lists, and are computed in float64 on the host. The
    validation points must be no training points, and exchangeable with the test points.
    """

    def score_fn(self, probs: Any, targets: Any) -> np.ndarray:
        """How little each target conforms with the probabilities, from 0 to 1.

        Parameters
        ----------
        probs : array
            Class probabilities, shape ``(n, C)``.
        targets : array
            Classes, shape ``(n,)``.

        Returns
        -------
        numpy.ndarray
            Float64, shape ``(n,)``: the larger, the less a target was to be expected.

        Raises
        ------
        InvalidArgumentError, ShapeError
            If rows do not add up to 1, or a target is no column.
        """
        probs = probabilities("probs", probs)
        targets = labels("targets", targets, probs, "probs")
        return self._scores(probs)[np.arange(len(probs)), targets]

    def is_in(self, values: Any, conformal_sets: Sequence[Sequence[int]]) -> np.ndarray:
        """Whether each label is in the set of its point.

        Parameters
        ----------
        values : array
            Labels, shape ``(N,)``.
        conformal_sets : sequence of sequence of int
            A set of labels for each point.

        Returns
        -------
        numpy.ndarray
            Bool, shape ``(N,)``.

        Raises
        ------
        InvalidArgumentError, ShapeError
            If labels are no whole numbers, or there are not as many sets.
        """
        found = as_classes("values", on_host("values", values))
        if found.ndim != 1:
            raise ShapeError(f"values must have shape (N,), a label a point, not {found.shape}")
        sets = _checked_sets(conformal_sets)
        check_same_length("conformal_sets", len(sets), "values", len(found))
        return np.array([int(value) in held for value, held in zip(found, sets, strict=True)])

    @abstractmethod
    def _scores(self, probs: np.ndarray) -> np.ndarray:
        """Scores of all classes at all points, shape ``(N, C)``."""


class SplitConformalClassifier(ConformalClassifier):
    """Split conformal sets: scores of held-out points bound that of the next one.

    A label is in the set where its score is at most the ``ceil((n + 1)(1 - error))``-th smallest of
    the n validation scores (Vovk, Gammerman and Shafer 2005; Angelopoulos and Bates, A Gentle
    Introduction to Conformal Prediction, 2021). The true label is in it with probability at least
    ``1 - error``, and at most ``1 - error + 1/(n + 1)`` where no scores are equal.
    """

    def get_scores(
        self, val_probs: Any, val_targets: Any, test_probs: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the validation targets, ``(n,)``, and of all classes at the test points.

        Parameters
        ----------
        val_probs : array
            Probabilities at the validation points, shape ``(n, C)``.
        val_targets : array
            Their classes, shape ``(n,)``.
        test_probs : array
            Probabilities at the test points, shape ``(N, C)``.

        Returns
        -------
        tuple of numpy.ndarray
            Float64, shapes ``(n,)`` and ``(N, C)``.

        Raises
        ------
        InvalidArgumentError, ShapeError
            If rows do not add up to 1, a target is no column, or sizes do not fit.
        """
        val_probs = probabilities("val_probs", val_probs)
        val_targets = labels("val_targets", val_targets, val_probs, "val_probs")
        test_probs = probabilities("test_probs", test_probs, val_probs.shape[1], "val_probs")
        val_scores = self._scores(val_probs)[np.arange(len(val_probs)), val_targets]
        return val_scores, self._scores(test_probs)

    def conformal_set(
        self, val_probs: Any, val_targets: Any, test_probs: Any, error: float
    ) -> list[list[int]]:
        """A set of labels for each test point.

        Parameters
        ----------
        val_probs : array
            Probabilities at the validation points, shape ``(n, C)``.
        val_targets : array
            Their classes, shape ``(n,)``.
        test_probs : array
            Probabilities at the test points, shape ``(N, C)``.
        error : float
            The probability that the true label is left out, between 0 and 1, both excluded. Below
            ``1/(n + 1)`` every set holds all classes, and a warning says so.

        Returns
        -------
        list of list of int
            N sets, labels in ascending order.

        Raises
        ------
        InvalidArgumentError, ShapeError
            If rows do not add up to 1, a target is no column, sizes do not fit, or `error` is none.
        """
        val_scores, test_scores = self.get_scores(val_probs, val_targets, test_probs)
        held = test_scores <= score_quantile(val_scores, error, "all classes")
        return as_sets(held | self._always(test_scores))

    def _always(self, scores: np.ndarray) -> np.ndarray:
        """Which labels are in the set whatever the validation scores are."""
        return np.zeros(scores.shape, dtype=bool)


class CVPlusConformalClassifier(ConformalClassifier):
    """CV+ sets: every point validates the model that was trained without its fold.

    A label y is in the set where ``sum_i 1[score_i < score(x, y; model without i's fold)]`` is
    below ``(1 - error)(n + 1)`` (Romano, Sesia and Candes, Classification with Valid and Adaptive
    Coverage, 2020). The true label is in it with probability at least ``1 - 2 error`` (less about
    ``sqrt(2 / n)``, or ``2 / (K + 1)``, for K folds), and in practice about ``1 - error``. A set
    may be empty.
    """

    def get_scores(
        self,
        cross_val_probs: Sequence[Any],
        cross_val_targets: Sequence[Any],
        cross_test_probs: Sequence[Any],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores of all targets, ``(n,)``, and of all classes under each model, ``(K, N, C)``.

        Parameters
        ----------
        cross_val_probs : sequence of array
            For each of K folds the probabilities at its points, of the model trained without it.
        cross_val_targets : sequence of array
            For each fold the classes of its points.
        cross_test_probs : sequence of array
            For each fold the probabilities of the same model at the test points, ``(N, C)``.

        Returns
        -------
        tuple of numpy.ndarray
            Float64, shapes ``(n,)``, fold after fold, and ``(K, N, C)``.

        Raises
        ------
        InvalidArgumentError, ShapeError
            As for `conformal_set`.
        """
        val_scores, test_scores = self._of_folds(
            cross_val_probs, cross_val_targets, cross_test_probs
        )
        return np.concatenate(val_scores), np.stack(test_scores)

    def conformal_set(
        self,
        cross_val_probs: Sequence[Any],
        cross_val_targets: Sequence[Any],
        cross_test_probs: Sequence[Any],
        error: float,
    ) -> list[list[int]]:
        """A set of labels for each test point.

        Parameters
        ----------
        cross_val_probs : sequence of array
            For each of K folds the probabilities at its points, of the model trained without it.
        cross_val_targets : sequence of array
            For each fold the classes of its points.
        cross_test_probs : sequence of array
            For each fold the probabilities of the same model at the test points, ``(N, C)``.
        error : float
            Between 0 and 1, both excluded. Below ``1/(n + 1)``, of n points in all folds, every set
            holds all classes, and a warning says so.

        Returns
        -------
        list of list of int
            N sets, labels in ascending order.

        Raises
        ------
        InvalidArgumentError, ShapeError
            If rows do not add up to 1, a target is no column, sizes or numbers of folds do not fit,
            there is one fold alone, or `error` is none.
        """
        val_scores, test_scores = self._of_folds(
            cross_val_probs, cross_val_targets, cross_test_probs
        )
        below = sum(
            np.searchsorted(np.sort(fold), scores, side="left")
            for fold, scores in zip(val_scores, test_scores, strict=True)
        )
        return as_sets(np.asarray(below < rank(error, sum(map(len, val_scores)), "all classes")))

    def _of_folds(
        self, val_probs: Any, val_targets: Any, test_probs: Any
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        given = folds(
            cross_val_probs=val_probs, cross_val_targets=val_targets, cross_test_probs=test_probs
        )
        first = "cross_val_probs[0]"
        num_classes = probabilities(first, given[0][0]).shape[1]
        val_scores: list[np.ndarray] = []
        test_scores: list[np.ndarray] = []
        for i, (p, y, test) in enumerate(zip(*given, strict=True)):
            name = f"cross_val_probs[{i}]"
            p = probabilities(name, p, num_classes, first)
            y = labels(f"cross_val_targets[{i}]", y, p, name)
            name = f"cross_test_probs[{i}]"
            test = probabilities(name, test, num_classes, first)
            if test_scores:
                check_same_length(name, len(test), "cross_test_probs[0]", len(test_scores[0]))
            val_scores.append(self._scores(p)[np.arange(len(p)), y])
            test_scores.append(self._scores(test))
        return val_scores, test_scores


def as_sets(held: np.ndarray) -> list[list[int]]:
    """The columns that are set, row by row."""
    return [np.flatnonzero(row).tolist() for row in held]


def _checked_sets(value: Any) -> list[set[int]]:
    if not _is_run(value):
        raise InvalidArgumentError(
            f"conformal_sets is {shown(value)}; give the list that conformal_set gives"
        )
    sets: list[set[int]] = []
    for i, one in enumerate(value):
        held = list(one) if isinstance(one, set | frozenset) or _is_run(one) else None
        if held is None or not all(is_whole(plain(label), 0) for label in held):
            raise InvalidArgumentError(
                f"conformal_sets[{i}] is {shown(one)}; give a list of labels, whole numbers"
            )
        sets.append({int(label) for label in held})
    return sets


def _is_run(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
