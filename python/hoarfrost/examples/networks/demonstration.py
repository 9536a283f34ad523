"""What the recipes share: data, a head trained to its MAP, and the table."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import hoarfrost
from hoarfrost.data import InputsLoader
from hoarfrost.freezing import Selector, make_partition
from hoarfrost.types import Tree, join

Apply = Callable[[Tree, Tree], Any]
_STEPS, _RATE, _PRIOR_PRECISION = 300, 3e-2, 1.0


@dataclass(frozen=True)
class Data:
    """Points to train on, points of the same kind, and some of another kind.

    Attributes
    ----------
    train, test : (inputs, targets)
        Arrays, or trees of arrays, with one class a point.
    other : tree of arrays
        Inputs without targets.
    about : str
        What `other` holds.
    """

    train: tuple[Tree, np.ndarray]
    test: tuple[Tree, np.ndarray]
    other: Tree
    about: str


def check_installed(**packages: str) -> None:
    """End the command with what to install, where one of these packages is not there.

    Parameters
    ----------
    **packages : str
        By the name that is imported, what pip installs.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        needed = " ".join(f'"{packages[name]}"' for name in missing)
        sys.exit(f"this example needs {', '.join(missing)}: pip install {needed}")


def versions(*packages: str) -> str:
    """The packages with their versions, for a title."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def digits(*shape: int) -> Data:
    """scikit-learn's images of 8 x 8 in inputs of some shape, and the test images turned."""
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8)
    turned = np.rot90(images[1000:], axes=(1, 2))
    train, test, other = (x.reshape(-1, *shape) for x in (images[:1000], images[1000:], turned))
    return Data((train, targets[:1000]), (test, targets[1000:]), other, "digits turned by 90°")


def trained(
    apply: Apply,
    params: Tree,
    trainable: Selector,
    data: Data,
    steps: int = _STEPS,
) -> Tree:
    """The parameters with their trainable part at its MAP, by Adam on all points at once."""
    partition = make_partition(params, trainable)
    chosen, frozen = partition.split(params)
    adam = optax.adam(optax.cosine_decay_schedule(_RATE, steps))

    def loss(chosen: Tree, frozen: Tree, inputs: Tree, targets: Any) -> Any:
        outputs = apply(partition.merge(chosen, frozen), inputs)
        nll = optax.softmax_cross_entropy_with_integer_labels(outputs, targets).sum()
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(chosen))
        return (nll + _PRIOR_PRECISION / 2 * squares) / len(targets)

    @jax.jit
    def step(chosen: Tree, state: Any, frozen: Tree, inputs: Tree, targets: Any) -> Any:
        updates, state = adam.update(jax.grad(loss)(chosen, frozen, inputs, targets), state)
        return optax.apply_updates(chosen, updates), state

    state = adam.init(chosen)
    for _ in range(steps):
        chosen, state = step(chosen, state, frozen, *data.train)
    merged: Tree = partition.merge(chosen, frozen)
    return merged


def show(title: str, apply: Apply, params: Tree, trainable: Selector, data: Data) -> None:
    """Train the head, make it Bayesian, and print what comes of it."""
    params = trained(apply, params, trainable, data)
    posterior = hoarfrost.fit_laplace(
        apply,
        params,
        [data.train],
        trainable=trainable,
        prior_precision=_PRIOR_PRECISION,
        progress=False,
    )
    inputs, targets = data.test
    names = [join(path) for path in make_partition(params, trainable).trainable_paths]
    rows = []
    for where, points in (("test", inputs), ("other", data.other)):
        loader = InputsLoader.from_array_inputs(points, batch_size=500)
        by_map = jax.nn.softmax(np.concatenate([jax.jit(apply)(params, x) for x in loader]))
        rows.append((where, np.asarray(by_map), posterior.predict(loader, link="probit")))
    (_, *tested), (_, *other) = rows
    print(f"{title}\nBayesian: {', '.join(names)}, {posterior.num_params} parameters\n")
    print(f"{'':46s}{'MAP':>8s}{'Laplace':>9s}")
    _row(f"accuracy on {len(targets)} points", [(p.argmax(-1) == targets).mean() for p in tested])
    at = np.arange(len(targets))
    floor = np.finfo(np.float32).tiny
    _row("mean log-probability", [np.log(np.maximum(p[at, targets], floor)).mean() for p in tested])
    _row("confidence there", [p.max(-1).mean() for p in tested])
    _row(f"confidence on {data.about}", [p.max(-1).mean() for p in other])


def _row(name: str, values: list[Any]) -> None:
    print(f"{name:46s}{values[0]:8.3f}{values[1]:9.3f}")
