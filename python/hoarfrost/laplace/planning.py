"""What a posterior would take, and the subset of a model's parameters that it would be over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hoarfrost.curvature import last_layer
from hoarfrost.data.checked import CheckedBatch, input_batches
from hoarfrost.devices import ANYWHERE, Devices
from hoarfrost.errors import DataError
from hoarfrost.freezing import Partition, Selector, Subset, make_partition
from hoarfrost.freezing.features import layer_partition
from hoarfrost.laplace.linearise import linearise
from hoarfrost.laplace.plan import MemoryPlan
from hoarfrost.likelihood import Likelihood, resolve
from hoarfrost.memory import check_memory_budget, memory_errors
from hoarfrost.network import Call, as_network, param_kinds
from hoarfrost.network.dense import Origin
from hoarfrost.types import Tree


def plan_laplace(
    model: Any,
    params: Tree,
    inputs: Tree,
    *,
    likelihood: str | Likelihood = "categorical",
    trainable: Selector = None,
    memory_budget: int | None = None,
    call: Call | None = None,
) -> MemoryPlan:
    """The memory that `fit_laplace` would take with the same arguments; ``print`` it.

    ``hoarfrost.plan`` is its short name.

    Parameters
    ----------
    inputs : array, tree of arrays or InputsLoader
        Some inputs, of which the first batch shows the network's structure.

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np
    >>> from hoarfrost.laplace import plan_laplace
    >>> plan = plan_laplace(lambda params, x: x @ params["w"], {"w": jnp.zeros((64, 10))},
    ...                     np.ones((3, 64), np.float32))
    >>> plan.num_params, plan.head
    (640, 'softmax')
    """
    subset = subset_of(model, params, trainable, lambda: first_inputs(inputs), call)
    return plan_network(subset, inputs, likelihood=likelihood, memory_budget=memory_budget)


def plan_network(
    subset: Subset,
    inputs: Tree,
    *,
    likelihood: str | Likelihood = "categorical",
    memory_budget: int | None = None,
) -> MemoryPlan:
    """`plan_laplace` for a subset that exists already."""
    check_memory_budget(memory_budget)
    first = first_inputs(inputs)
    with memory_errors("the plan of a posterior"):
        return linearise(subset, resolve(likelihood), first).plan(memory_budget, first.size)


def subset_of(
    model: Any,
    params: Tree,
    trainable: Selector,
    first_batch: Callable[[], CheckedBatch],
    call: Call | None = None,
    devices: Devices = ANYWHERE,
    origin: Origin | None = None,
) -> Subset:
    """A model, its parameters and a selection of them; `first_batch` shows a last layer.

    So does the `origin` of features.
    """
    network, tree, mutable = as_network(model, params, call)
    tree, mutable = devices.whole((tree, mutable))

    def found() -> Partition:
        if origin is not None:
            return layer_partition(tree, origin.layer, "data_loader")
        return last_layer(network, tree, mutable, first_batch().inputs, devices)

    partition = make_partition(tree, trainable, kinds=param_kinds(network), head=found)
    return Subset(network, partition, tree, mutable, devices)


def first_inputs(inputs: Tree) -> CheckedBatch:
    """The first batch of inputs in any of the forms that they may have."""
    first = next(input_batches(inputs), None)
    if first is None:
        raise DataError("inputs are empty: give at least one point")
    return first
