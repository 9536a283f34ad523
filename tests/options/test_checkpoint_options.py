"""Every argument of what writes a state to disk, reads it, or takes parameters from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest
from entries import Later, Other, Subject, built, cases, check, kept, table
from on_disk import in_a_folder
from problems import AT_MAP, CLASSES, Net, classifier, config, fitted

POSTERIORS = {"MAPPosterior": "map", "LaplacePosterior": "classifier"}


def run_save(of: Callable[[], Any]) -> Callable[..., Any]:
    """What is in the folders after two calls."""

    def run(**given: Any) -> None:
        for _ in range(2):
            of().save_state(**given)

    return in_a_folder(run)


def run_load(of: Callable[[], Any]) -> Callable[..., Any]:
    """The parameters that a new model holds."""

    def run(**given: Any) -> Any:
        owner = of()
        owner.load_state(**given)
        return getattr(owner, "posterior", owner).state.get().params

    return in_a_folder(run)


def variables() -> Any:
    """Those of a network with statistics, as Linen has them."""

    def make() -> Any:
        model = normed()
        model.train(CLASSES, fit_config=config())
        state = model.posterior.state.get()
        return {**state.params["model"], **state.mutable["model"]}

    return kept("variables with statistics", make)


def parameters(factor: int) -> Any:
    return {"params": jax.tree.map(lambda leaf: factor * leaf, variables()["params"])}


def statistics(factor: int) -> Any:
    return {"batch_stats": jax.tree.map(lambda leaf: factor * leaf, variables()["batch_stats"])}


def normed() -> Any:
    return classifier(model=Net(normed=True), posterior_approximator=AT_MAP)


def run_params(**given: Any) -> Any:
    model = normed()
    model.load_params(**given)
    return model.predictive.log_prob(CLASSES, 1, jax.random.PRNGKey(0))


def of_disk() -> Iterator[tuple[str, Subject]]:
    saving = {
        "checkpoint_path": Other("elsewhere"),
        "keep_top_n_checkpoints": Other(2),
    }
    for name, kind in POSTERIORS.items():
        yield built(
            f"{name}.save_state",
            run_save(lambda kind=kind: fitted(kind).posterior),
            {"checkpoint_path": "folder"},
            **saving,
        )
        approximator = {"posterior_approximator": AT_MAP} if kind == "map" else {}
        yield built(
            f"{name}.load_state",
            run_load(lambda options=approximator: classifier(**options).posterior),
            {"checkpoint_path": "made"},
            checkpoint_path=Other("other"),
        )
    yield built(
        "ProbClassifier.save_state",
        run_save(lambda: fitted("map")),
        {"checkpoint_path": "folder"},
        **saving,
    )
    yield built(
        "ProbClassifier.load_state",
        run_load(lambda: classifier(posterior_approximator=AT_MAP)),
        {"checkpoint_path": "made"},
        checkpoint_path=Other("other"),
    )
    yield built(
        "ProbClassifier.load_params",
        run_params,
        lambda: {"tree": parameters(1), "mutable": statistics(1)},
        tree=Other(Later(lambda: parameters(2))),
        mutable=Other(Later(lambda: statistics(2))),
    )


TABLE = table(of_disk())


@pytest.mark.parametrize(("name", "argument"), cases(TABLE))
def test_every_argument_acts(name: str, argument: str) -> None:
    check(name, TABLE[name], argument)
