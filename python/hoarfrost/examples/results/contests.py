"""Who is held against whom: the methods of a task, and what their names mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hoarfrost.examples.results import classifiers, gap_task, signal_tasks, whole_task
from hoarfrost.examples.results.scores import Row
from hoarfrost.examples.results.tables import Collected, by_method, by_score


@dataclass(frozen=True)
class Contest:
    """The methods of a task.

    Attributes
    ----------
    about : str
        What their names mean.
    laplaces : sequence of str
        Each is held against each of `baselines`, and the first of them against `others` too.
    baselines, others : sequence of str
        The other methods.
    table : callable
        How their scores are printed.
    """

    about: str
    laplaces: Sequence[str]
    baselines: Sequence[str]
    others: Sequence[str]
    table: Callable[[Collected, Callable[[Row], bool]], str]

    def pairs(self) -> list[tuple[str, str]]:
        """Each Laplace with each method that it is held against."""
        found = [(ours, theirs) for ours in self.laplaces for theirs in self.baselines]
        return found + [(self.laplaces[0], theirs) for theirs in self.others]


SIX = Contest(
    "All methods start from the same trained network (MAP under a standard normal prior, Adam "
    "3e-3), one a seed. Temp. scaling: MAP with one temperature fitted to the validation data. "
    "Laplace diag.: diagonal covariance, prior precision at the largest evidence. Laplace evid.: "
    "full covariance, likewise. Laplace val.: full covariance, prior precision chosen on the "
    "validation data (for digits up to exp(10), where it is nearly MAP). Laplace val. T: a "
    "temperature of the likelihood chosen with it.",
    classifiers.LAPLACES,
    classifiers.BASELINES,
    (),
    by_score,
)
ON_SIGNALS = Contest(
    "Network 40-256-128-10, 100 epochs of Adam 3e-3 in batches of 50, prior variance 1: one that "
    "is too sure. Every method has the same labels. MAP trains on all of them, temperature scaling "
    "on four fifths, and chooses its temperature on the last fifth. All others are over the last "
    "layer. Those by evidence are Laplace posteriors by the name of their structure, about the MAP "
    "of all labels, their prior precision that of the largest evidence; those by validation are "
    "about the MAP of four fifths, their prior precision the best for the last fifth; all predict "
    "by the probit link. The methods below them start from the MAP of all labels and keep its "
    "prior variance of 1.",
    signal_tasks.LAPLACES,
    signal_tasks.BASELINES,
    signal_tasks.OTHERS,
    by_method,
)
WITH_GAPS = Contest(
    "Network 1-50-1 with tanh, prior variance 1 and the noise known, all of its parameters "
    "uncertain. MAP: the noise alone. Laplace posteriors by the name of their structure, "
    "linearised, their prior precision that of the largest evidence; the other methods keep the "
    "prior variance.",
    gap_task.LAPLACES,
    gap_task.BASELINES,
    gap_task.OTHERS,
    by_method,
)
_WHOLE = (
    "1,000 signals with labels, 100 epochs of Adam 3e-3 in batches of 50, prior variance 1. The "
    "Laplace posteriors are over the last layer or over all parameters, by the name of their "
    "structure; their prior precisions, one for each leaf, are those of the largest evidence; "
    "predictions by the probit link."
)
OF_NARROW = Contest(
    f"Network 40-48-48-10. {_WHOLE}",
    (whole_task.KRON, whole_task.FULL),
    whole_task.BASELINES,
    (),
    by_method,
)
OF_WIDE = Contest(
    f"Network 40-256-128-10. {_WHOLE}", (whole_task.KRON,), whole_task.BASELINES, (), by_method
)
