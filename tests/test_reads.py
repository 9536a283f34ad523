"""A program is keyed by all that it reads: what changes is seen, what does not is not traced."""

from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
from types import MethodType, SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hoarfrost import fit_laplace
from hoarfrost.likelihood import CustomLikelihood
from hoarfrost.network.reads import Reads

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3)).astype(np.float32)
Y = RNG.normal(size=(12, 2)).astype(np.float32)
PARAMS = {"w": jnp.asarray(RNG.normal(size=(3, 2)), jnp.float32)}
TRACES: list[int] = []

SCALE = 1.0
SETTINGS = {"scale": 1.0}
SPACE = SimpleNamespace(scale=1.0)
TABLE = np.ones(2, np.float32)


def scaled(params, x, scale):
    TRACES.append(1)
    return x @ params["w"] * scale


def global_number():
    def change():
        global SCALE
        SCALE = 2.0

    def back():
        global SCALE
        SCALE = 1.0

    return lambda params, x: scaled(params, x, SCALE), change, back


def helper():
    return SCALE


def global_of_a_helper():
    _, change, back = global_number()
    return lambda params, x: scaled(params, x, helper()), change, back


def global_dict():
    def change():
        SETTINGS["scale"] = 2.0

    return (
        lambda params, x: scaled(params, x, SETTINGS["scale"]),
        change,
        lambda: SETTINGS.update(scale=1.0),
    )


def namespace():
    def set_to(value):
        SPACE.scale = value

    return (
        lambda params, x: scaled(params, x, SPACE.scale),
        lambda: set_to(2.0),
        lambda: set_to(1.0),
    )


def array_in_place():
    def change():
        TABLE[:] = 2.0

    def back():
        TABLE[:] = 1.0

    return lambda params, x: scaled(params, x, TABLE), change, back


def cell():
    scale = 1.0

    def apply(params, x):
        return scaled(params, x, scale)

    def change():
        nonlocal scale
        scale = 2.0

    def back():
        nonlocal scale
        scale = 1.0

    return apply, change, back


class Plain:
    def __init__(self):
        self.scale = 1.0

    def apply(self, params, x):
        return scaled(params, x, self.scale)

    __call__ = apply


@dataclasses.dataclass
class Data:
    scale: float = 1.0

    def __call__(self, params, x):
        return scaled(params, x, self.scale)


class Slotted:
    __slots__ = ("scale",)

    def __init__(self):
        self.scale = 1.0

    def __call__(self, params, x):
        return scaled(params, x, self.scale)


def of(made, function):
    def change():
        made.scale = 2.0

    def back():
        made.scale = 1.0

    return function, change, back


def bound_method():
    made = Plain()
    return of(made, made.apply)


def instance():
    made = Plain()
    return of(made, made)


def dataclass():
    made = Data()
    return of(made, made)


def slots():
    made = Slotted()
    return of(made, made)


def bound_function():
    made = SimpleNamespace(scale=1.0)
    return of(made, MethodType(lambda self, params, x: scaled(params, x, self.scale), made))


def partial():
    held = [1.0]

    def change():
        held[0] = 2.0

    def back():
        held[0] = 1.0

    def apply(box, params, x):
        return scaled(params, x, box[0])

    return functools.partial(apply, held), change, back


def default():
    def apply(params, x, box={"scale": 1.0}):  # noqa: B006
        return scaled(params, x, box["scale"])

    def change():
        apply.__defaults__[0]["scale"] = 2.0

    def back():
        apply.__defaults__[0]["scale"] = 1.0

    return apply, change, back


def attribute_of_the_function():
    def apply(params, x):
        return scaled(params, x, apply.scale)

    apply.scale = 1.0
    return of(apply, apply)


def mapped():
    """A function of JAX around one of the user's."""
    held = Data()
    single = jax.vmap(lambda params, x: scaled(params, x, held.scale), in_axes=(None, 0))
    return of(held, single)


FORMS = [
    *(global_number, global_of_a_helper, global_dict, namespace, array_in_place, cell),
    *(bound_method, instance, dataclass, slots, bound_function, partial, default),
    *(attribute_of_the_function, mapped),
]


@pytest.mark.parametrize("form", FORMS)
def test_a_function_that_reads_what_changed_is_traced_again(form):
    function, change, back = form()
    try:
        posterior = fit_laplace(function, PARAMS, [(X, Y)], likelihood="gaussian", progress=False)
        first = posterior.predict(X)[0]
        through = posterior.predict(X, "nn", 4)[0]
        TRACES.clear()
        posterior.predict(X), posterior.predict(X, "nn", 4)
        assert not TRACES, "nothing changed, nothing is traced"
        change()
        np.testing.assert_allclose(posterior.predict(X)[0], 2 * first, rtol=1e-6)
        np.testing.assert_allclose(posterior.predict(X, "nn", 4)[0], 2 * through, rtol=1e-6)
        TRACES.clear()
        posterior.predict(X), posterior.predict(X, "nn", 4)
        assert not TRACES
        back()
        np.testing.assert_array_equal(posterior.predict(X)[0], first)
        assert not TRACES, "what it was before is known"
    finally:
        back()


class Net(nn.Module):
    """A module that reads a global, a class attribute and a dict that it was given."""

    settings: dict
    scale = 1.0

    @nn.compact
    def __call__(self, x):
        TRACES.append(1)
        return nn.Dense(2)(x * SCALE * self.scale * self.settings["scale"])


@pytest.mark.parametrize("what", ["global", "class", "attribute"])
def test_a_module_that_reads_what_changed(what):
    global SCALE
    module = Net({"scale": 1.0})
    variables = module.init(jax.random.key(0), X)
    TRACES.clear()
    posterior = fit_laplace(module, variables, [(X, Y)], likelihood="gaussian", progress=False)
    first = posterior.predict(X)[0]
    TRACES.clear()
    posterior.predict(X)
    assert not TRACES
    try:
        if what == "global":
            SCALE = 2.0
        elif what == "class":
            Net.scale = 2.0
        else:
            module.settings["scale"] = 2.0
        expected = np.asarray(module.apply(variables, X))
        np.testing.assert_allclose(posterior.predict(X)[0], expected, rtol=1e-5, atol=1e-6)
        assert np.any(expected != first)
    finally:
        SCALE = Net.scale = 1.0


WIDTH = 1.0


class Weighted(CustomLikelihood):
    """No dataclass: a weight, and a global."""

    def __init__(self, weight, table=None):
        self.weight = weight
        self.table = table
        self.__post_init__()

    def log_prob(self, outputs, targets):
        return -jnp.sum(self.weight * WIDTH * (outputs - targets) ** 2, axis=1)

    def mean(self, outputs):
        return outputs * self.weight * WIDTH


def linear(params, x):
    return x @ params["w"]


def precision(likelihood):
    posterior = fit_laplace(linear, PARAMS, [(X, Y)], likelihood=likelihood, progress=False)
    return posterior, posterior.precision() - np.eye(6)


def test_likelihoods_that_are_no_dataclasses_are_told_apart():
    global WIDTH
    assert Weighted(1.0) == Weighted(1.0) != Weighted(3.0)
    assert hash(Weighted(1.0)) == hash(Weighted(1.0))
    assert Weighted(1.0, np.ones(2)) == Weighted(1.0, np.ones(2)) != Weighted(1.0, np.zeros(2))
    likelihood = Weighted(1.0)
    posterior, one = precision(likelihood)
    first = posterior.predict(X)
    np.testing.assert_allclose(precision(Weighted(3.0))[1], 3 * one, rtol=1e-5)
    likelihood.weight = 2.0
    np.testing.assert_allclose(posterior.predict(X, seed=0), 2 * first, rtol=1e-5)
    try:
        WIDTH = 2.0
        np.testing.assert_allclose(precision(likelihood)[1], 4 * one, rtol=1e-5)
    finally:
        WIDTH = 1.0


def test_copies_look_for_themselves():
    likelihood = pickle.loads(pickle.dumps(Weighted(2.0)))
    assert likelihood == Weighted(2.0) == copy.deepcopy(likelihood) == copy.copy(likelihood)
    copied = copy.deepcopy(likelihood)
    copied.weight = 3.0
    assert copied == Weighted(3.0) != likelihood
    held = Plain()
    reads = Reads(held.apply)
    first, twin = reads.version(), copy.deepcopy(reads)
    held.scale = 2.0
    assert reads.version() != first == twin.version()


def test_what_tracing_changes_is_no_reason_to_trace_again():
    calls = 0

    def counted(params, x):
        nonlocal calls
        calls += 1
        return x @ params["w"]

    def run():
        posterior = fit_laplace(counted, PARAMS, [(X, Y)], likelihood="gaussian", progress=False)
        posterior.predict(X), posterior.predict(X, "nn", 4)

    run()
    before = calls
    run()
    assert calls == before


def test_a_version_holds_no_array_and_knows_every_kind():
    held = {
        "numbers": [1, 1.0, True, float("nan"), 2 + 1j, "a", b"a", None, np.float32(1)],
        "set": {1, "b"},
        "object": object(),
        "objects": np.array([1, "a"], dtype=object),
        "range": range(3),
        "jax": jnp.ones(2),
        "property": Net,
    }
    held["itself"] = held
    reads = Reads(lambda: held)
    first = reads.version()
    assert reads.version() == first
    for name in ("numbers", "set", "objects"):
        kept = held[name]
        held[name] = type(kept)([5]) if name != "objects" else np.array([2, "a"], dtype=object)
        assert reads.version() != first, name
        held[name] = kept
        assert reads.version() == first, name
    held["numbers"][1] = 1
    assert reads.version() != first
