"""Every argument of what posteriors of the methods have in common behind Fortuna's interface."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from entries import Inert, Later, Other, Refused, Subject, built, cases, check, kept, table
from on_disk import in_a_folder
from problems import CLASSES, CLASSES2, Net, classifier, config, held, key, nnx_net

from hoarfrost.prob_model import ADVIPosteriorApproximator, JointState

ADVI = ADVIPosteriorApproximator()


def fitted(model: Any = None) -> Any:
    def make() -> Any:
        options = {} if model is None else {"model": model()}
        found = classifier(posterior_approximator=ADVI, **options)
        found.train(CLASSES, fit_config=config())
        return found.posterior

    return kept(f"advi of {model}", make)


def run_fit(**given: Any) -> Any:
    posterior = classifier(posterior_approximator=ADVI).posterior
    status = posterior.fit(**given)
    return status, posterior.weight_samples(2, key()).trainable


def run_save_state(**given: Any) -> None:
    for _ in range(2):
        fitted().save_state(**given)


def checkpoint(seed: int) -> str:
    """The folder of a posterior, of a model with its own start."""

    def make() -> str:
        model = classifier(posterior_approximator=ADVI, seed=seed)
        model.train(CLASSES, fit_config=config())
        folder = tempfile.mkdtemp()
        model.posterior.save_state(folder)
        return folder

    return kept(f"checkpoint {seed}", make)


def run_load_state(**given: Any) -> Any:
    posterior = classifier(posterior_approximator=ADVI).posterior
    posterior.load_state(**given)
    return posterior.weight_samples(2, key()).trainable


def run_write_to(**given: Any) -> Any:
    """What a module holds afterwards."""
    fitted(nnx_net).write_to(**given)
    return held(given["module"])


def of_posteriors() -> Iterator[tuple[str, Subject]]:
    yield built(
        "ADVIPosterior.fit",
        run_fit,
        {"train_data_loader": CLASSES, "fit_config": config()},
        train_data_loader=Other(CLASSES2),
        val_data_loader=Other(CLASSES2),
        fit_config=Other(config(3)),
        map_fit_config=Other(config(1)),
    )
    yield built(
        "ADVIPosterior.save_state",
        in_a_folder(run_save_state),
        {"checkpoint_path": "folder"},
        checkpoint_path=Other("elsewhere"),
        keep_top_n_checkpoints=Other(2),
    )
    yield built(
        "ADVIPosterior.load_state",
        run_load_state,
        lambda: {"checkpoint_path": checkpoint(0)},
        checkpoint_path=Other(Later(lambda: checkpoint(1))),
    )
    yield built(
        "ADVIPosterior.sample",
        lambda **given: vars(fitted().sample(**given)),
        {"rng": key()},
        rng=Other(key(1)),
        inputs_loader=Inert(CLASSES.to_inputs_loader(), "no draw depends on inputs"),
    )
    yield built(
        "ADVIPosterior.write_to",
        run_write_to,
        lambda: {"module": nnx_net(1)},
        module=Refused(Net(), "module is a Net; give an NNX module"),
        state=Other(JointState({"model": held(nnx_net(2))})),
        name=Refused("noise", "name is 'noise'; the networks of this model are model"),
    )
    yield built(
        "ADVIPosterior.weight_samples",
        lambda **given: fitted().weight_samples(**given).trainable,
        {"n_samples": 2, "key": key()},
        n_samples=Other(3),
        key=Other(key(1)),
        link=Inert("nn", 'which `link` "nn" says, too'),
    )


TABLE = table(of_posteriors())


@pytest.mark.parametrize(("name", "argument"), cases(TABLE))
def test_every_argument_acts(name: str, argument: str) -> None:
    check(name, TABLE[name], argument)
