"""What a posterior's file says beside its numbers: likelihood, layer, inputs, certificate."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import warnings
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

import hoarfrost.likelihood as likelihoods
from hoarfrost.curvature.head import HeadPass
from hoarfrost.curvature.head_check import check_directions
from hoarfrost.curvature.layers import FoundLayers, Layer, Layers
from hoarfrost.curvature.layout import HeadLayout, matrix_shape
from hoarfrost.errors import HoarfrostError, InvalidArgumentError, SavedFileError
from hoarfrost.freezing import Subset
from hoarfrost.freezing.features import fingerprint_of
from hoarfrost.laplace.evidence.tuning import Tuning
from hoarfrost.laplace.evidence.validation import HeldOut
from hoarfrost.laplace.saved_trees import decoded, encoded, template_of, tree_of
from hoarfrost.likelihood import Likelihood, resolve
from hoarfrost.network import NetworkProgram
from hoarfrost.storage import Pieces, StoredFile, digest
from hoarfrost.types import Array, Tree

Header = dict[str, Any]
Certificate = TypeVar("Certificate", Tuning, HeldOut)

# Likelihoods that a file can name.
_NAMED: dict[str, Any] = {
    one.name: one
    for one in (
        likelihoods.Categorical,
        likelihoods.Bernoulli,
        likelihoods.Poisson,
        likelihoods.Gaussian,
        likelihoods.HeteroscedasticGaussian,
    )
}

# Times the size of the outputs: on another device a network may round otherwise.
_SAME_MODEL = 3e-3

_MADE_UP = 2  # examples


def is_named(likelihood: Likelihood) -> bool:
    """Whether a file can name a likelihood; a user's own it cannot."""
    return _NAMED.get(likelihood.name) is type(likelihood)


def likelihood_header(likelihood: Likelihood) -> Header:
    """A likelihood by its name and settings; one of a user's own by its class and a checksum."""
    cls: Any = type(likelihood)
    if is_named(likelihood):
        names = [one.name for one in dataclasses.fields(cls)]
        return {"name": likelihood.name, "settings": {n: getattr(likelihood, n) for n in names}}
    return {"name": likelihood.name, "class": cls.__qualname__, "sha256": _settings(likelihood)}


def likelihood_of(header: Header, given: Any) -> Likelihood:
    """The likelihood of a file, which is `given` where it is a user's own.

    Raises
    ------
    InvalidArgumentError
        If it is needed and not given, or is another one than that of the fit.
    """
    if "settings" in header:
        likelihood: Likelihood = _NAMED[header["name"]](**header["settings"])
        if given is not None and resolve(given) != likelihood:
            raise InvalidArgumentError(
                f"likelihood is {given!r}, but the posterior was fitted with {likelihood!r}; leave "
                "it out"
            )
        return likelihood
    if given is None:
        raise InvalidArgumentError(
            f"likelihood is needed: the posterior was fitted with {header['class']}, which is none "
            "of Hoarfrost's"
        )
    likelihood = resolve(given)
    if (type(likelihood).__qualname__, _settings(likelihood)) != (
        header["class"],
        header["sha256"],
    ):
        raise InvalidArgumentError(
            f"likelihood is {given!r}, but the posterior was fitted with another one, of class "
            f"{header['class']}; give that, with the same settings"
        )
    return likelihood


def _settings(likelihood: Likelihood) -> str:
    leaves = jax.tree.leaves(likelihood)
    numbers = {str(k): np.asarray(x) for k, x in enumerate(leaves) if x is not likelihood}
    own: Any = likelihood
    fields: Any = dataclasses.fields(own) if dataclasses.is_dataclass(own) else ()
    words = repr([(one.name, getattr(likelihood, one.name)) for one in fields])
    return digest({**numbers, "fields": np.frombuffer(words.encode(), np.uint8)})


def layer_header(head: HeadPass | None) -> Header | None:
    """Where a last layer's leaves are, and along how many directions it is checked."""
    if head is None:
        return None
    signs = head.direction.signs
    return {**dataclasses.asdict(head.layout), "directions": 0 if signs is None else len(signs)}


def layer_of(header: Header | None, subset: Subset, positions: tuple[int, ...]) -> HeadPass | None:
    """The pass of a last layer."""
    if header is None:
        return None
    fields = dict(header)
    count = fields.pop("directions")
    layout = HeadLayout(**fields)
    leaves = jax.tree.leaves(subset.trainable)
    shape = None
    if layout.kernel is not None:
        shape = matrix_shape(tuple(np.shape(leaves[layout.kernel])), positions)
    bias = None if layout.bias is None else layout.num_outputs
    direction = check_directions(shape, layout.num_inputs, bias, count)
    return HeadPass(subset, layout, subset.devices.whole(direction), positions)


def layers_header(found: FoundLayers | None, arrays: dict[str, Array | Pieces]) -> Header | None:
    """The layers of a structure that goes by them."""
    if found is None:
        return None
    arrays["layers.order"] = found.order
    return dataclasses.asdict(found.layers)


def layers_of(header: Header | None, stored: StoredFile) -> FoundLayers | None:
    """The layers of a file."""
    if header is None:
        return None
    layers = tuple(Layer(**one) for one in header["layers"])
    found = Layers(layers, tuple(header["diagonal"]), header["diagonal_size"])
    return FoundLayers(found, stored.array("layers.order").copy())


def input_header(example: Tree) -> Header:
    """Containers, shapes and dtypes of one example of the inputs."""
    leaves = [[list(leaf.shape), np.dtype(leaf.dtype).name] for leaf in jax.tree.leaves(example)]
    return {"containers": template_of(example), "leaves": leaves}


def example_of(header: Header) -> Tree:
    """One example of the inputs; None where its containers could not be described."""
    if header["containers"] is None:
        return None
    form: Any = jax.ShapeDtypeStruct
    leaves = [form(tuple(shape), jnp.dtype(dtype)) for shape, dtype in header["leaves"]]
    return tree_of(header["containers"], leaves)


def probe_outputs(subset: Subset, example: Tree) -> Array | None:
    """Outputs at made-up inputs, by which another model is told; None where there are none."""
    if example is None or template_of(example) is None:
        return None
    generator = np.random.default_rng(0)

    def made_up(leaf: Any) -> Array:
        shape = (_MADE_UP, *leaf.shape)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return generator.normal(size=shape).astype(leaf.dtype)
        return np.zeros(shape, leaf.dtype) if leaf.dtype != bool else np.ones(shape, bool)

    try:
        outputs = _evaluation(
            subset.network, subset.params, subset.mutable, jax.tree.map(made_up, example)
        )
    except HoarfrostError:
        return None
    found: Array = np.asarray(outputs).astype(np.float32)
    return found if np.isfinite(found).all() else None


def program_of(subset: Subset, example: Tree) -> str | None:
    """A hash of the program of a network, by which its code is known again; None where it has none.

    Another version of JAX or Flax may write the same program otherwise.
    """
    if example is None:
        return None
    form: Any = jax.ShapeDtypeStruct
    try:
        return fingerprint_of(subset, jax.tree.map(lambda x: form((1, *x.shape), x.dtype), example))
    except HoarfrostError:
        return None


def written_by() -> list[Any]:
    """What the text of a program depends on beside the model."""
    wide = jnp.result_type(float) == np.float64
    return [jax.__version__, importlib.metadata.version("flax"), bool(wide)]


def check_model(stored: StoredFile, subset: Subset, example: Tree) -> None:
    """Compare a model with the one that was saved: by its program, else by its outputs.

    Raises
    ------
    SavedFileError
        If it gives other outputs at made-up inputs. Where those are the same and its program is
        not, though it was written by the same libraries, a warning says so.
    """
    program, libraries = stored.header["program"], stored.header["written_by"]
    if program is not None and program == program_of(subset, example):
        return
    if "probe" not in stored.entries:
        return
    expected, found = stored.array("probe"), probe_outputs(subset, example)
    same = found is not None and found.shape == expected.shape
    if found is not None and same:
        # Of 16 bits the last is 0.8 %.
        narrow = min(leaf.dtype.itemsize for leaf in jax.tree.leaves(subset.params)) < 4
        limit = (20 if narrow else 1) * _SAME_MODEL * np.abs(expected).max(initial=0)
        same = bool(np.abs(found - expected).max(initial=0) <= limit)
    if not same:
        raise SavedFileError(
            f"{stored.path} belongs to another model: this one gives other outputs with the same "
            "parameters; give the model that the posterior was fitted to"
        )
    if libraries == written_by():
        warnings.warn(
            f"the model is not written as the one that {stored.path} was saved with, though it "
            "gives nearly the same outputs at made-up inputs; make sure that it computes the same",
            UserWarning,
            stacklevel=2,
        )


def certificate_header(
    certificate: Tuning | HeldOut | None, prefix: str, arrays: dict[str, Array | Pieces]
) -> Header | None:
    """The certificate of a search, whose prior precision may hold arrays."""
    if certificate is None:
        return None
    fields = dataclasses.fields(certificate)
    header = {one.name: getattr(certificate, one.name) for one in fields}
    return {**header, "prior_precision": encoded(certificate.prior_precision, prefix, arrays)}


def certificate_of(
    cls: type[Certificate], header: Header | None, trainable: Tree, stored: StoredFile
) -> Certificate | None:
    """The certificate of a file."""
    if header is None:
        return None
    # A list in JSON was a tuple, but for the prior precision.
    fields = {name: tuple(x) if isinstance(x, list) else x for name, x in header.items()}
    prior = decoded(header["prior_precision"], trainable, stored)
    return cls(**{**fields, "prior_precision": prior})


def _evaluate(network: Any, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
    outputs: jax.Array = network.evaluate(params, mutable, inputs)
    return outputs


_evaluation = NetworkProgram(_evaluate)
