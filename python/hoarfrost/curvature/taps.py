"""Where a traced network multiplies by a trainable kernel, and its layers' inputs and Jacobians.

Names of layers play no part, nor does the library that they come from: what counts are the
operations of the traced program. A Dense layer is a `dot_general` of something with a kernel, a
convolution a `conv_general_dilated`; a bias is what is added to the product. On the way a leaf may
be cast, reshaped and transposed (a "view"). Run again with a zero added to each product (a "tap"),
the program shows the layer's inputs ``a``, and its gradient in the tap is ``G``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

# What moves a leaf's numbers about, and what leaves an array as it is.
_SAME = ("convert_element_type", "copy", "copy_p", "sharding_constraint")
_VIEWS = (*_SAME, "reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim")

# Programs inside a program that are gone into; all others are run as they are.
_INNER = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "checkpoint": "jaxpr"}
_INNER |= {"remat2": "jaxpr", "remat": "jaxpr", "core_call": "call_jaxpr"}

# Products that are no layer's as they stand, and what may hold a product that cannot be seen.
_HIDING = ("scan", "while", "cond", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_jvp_call")
PRODUCTS = ("dot_general", "conv_general_dilated", "ragged_dot_general", *_HIDING)

Inputs = Callable[[jax.Array, tuple[int, ...]], jax.Array]
Matrix = Callable[[Any], Any]


@dataclass(frozen=True)
class Product:
    """One product of inputs with a kernel, as matrices.

    Attributes
    ----------
    operand : int
        Which operand of the equation holds the inputs.
    inputs : callable
        The inputs in rows, ``(S, D)``, from that operand and the shape of the kernel's view.
    kernel : callable
        The kernel's view as ``(D, O)``.
    outputs : callable
        The product (or a leading axis of them) as ``(S, O)``.
    """

    operand: int
    inputs: Inputs
    kernel: Matrix
    outputs: Matrix


@dataclass(frozen=True, eq=False)
class View:
    """A leaf on its way to a product, and something of its shape that goes the same way."""

    leaf: int
    along: Any


@dataclass(eq=False)
class Use:
    """What becomes of a leaf, as a trace shows it.

    Attributes
    ----------
    operations : list of str
        All that take the leaf.
    index : ndarray or None
        Of a kernel: which of its numbers stands in each place of ``(D, O)``.
    tap : jax.ShapeDtypeStruct or None
        Of the product with that kernel.
    rows : int
        Of a layer's inputs for one example.
    added_to : int or None
        Of a bias: the leaf whose product it is added to, -1 where that is frozen.
    """

    operations: list[str] = field(default_factory=list)
    index: np.ndarray | None = None
    tap: Any = None
    rows: int = 0
    added_to: int | None = None


def as_product(equation: Any, kernel: int) -> Product | None:
    """The equation as a product with its operand number `kernel`; None where it is no layer's."""
    if equation.primitive.name == "dot_general":
        return _dense(equation, kernel)
    if equation.primitive.name == "conv_general_dilated" and kernel == 1:
        return _convolution(equation)
    return None


def _dense(equation: Any, kernel: int) -> Product | None:
    contracted, batched = equation.params["dimension_numbers"]
    if any(batched[0]) or any(batched[1]) or len(batched[kernel]):
        return None
    own, other = contracted[kernel], contracted[1 - kernel]
    rank = len(equation.invars[kernel].aval.shape), len(equation.invars[1 - kernel].aval.shape)
    free = [axis for axis in range(rank[0]) if axis not in own]
    rows = [axis for axis in range(rank[1]) if axis not in other]
    shape = equation.invars[kernel].aval.shape
    num_inputs, num_outputs = (math.prod(shape[axis] for axis in axes) for axes in (own, free))

    def inputs(operand: jax.Array, _: tuple[int, ...]) -> jax.Array:
        return operand.transpose([*rows, *other]).reshape(-1, num_inputs)

    def matrix(view: Any) -> Any:
        return view.transpose([*own, *free]).reshape(num_inputs, num_outputs)

    def outputs(product: Any) -> Any:
        if kernel == 1:
            return product.reshape(-1, num_outputs)
        return product.reshape(num_outputs, -1).T

    return Product(1 - kernel, inputs, matrix, outputs)


def _convolution(equation: Any) -> Product | None:
    params = equation.params
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        return None
    numbers = params["dimension_numbers"]
    out_axis, (outer, inner, *window) = numbers.out_spec[1], numbers.rhs_spec
    shape = equation.invars[1].aval.shape
    num_inputs = math.prod(shape[axis] for axis in (inner, *window))

    def inputs(operand: jax.Array, kernel_shape: tuple[int, ...]) -> jax.Array:
        patches = jax.lax.conv_general_dilated_patches(
            operand,
            [kernel_shape[axis] for axis in window],
            params["window_strides"],
            params["padding"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            numbers,
            precision=jax.lax.Precision.HIGHEST,
        )
        return jnp.moveaxis(patches, out_axis, -1).reshape(-1, num_inputs)

    def matrix(view: Any) -> Any:
        # Patches run over channels first, then over the window.
        return view.transpose([inner, *window, outer]).reshape(num_inputs, shape[outer])

    def outputs(product: Any) -> Any:
        return jnp.moveaxis(product, out_axis, -1).reshape(-1, shape[outer])

    return Product(0, inputs, matrix, outputs)


def uses(closed: Any, num_leaves: int, *, indices: bool = True) -> list[Use]:
    """What becomes of each of the first arguments of a traced program, which is not run.

    Without `indices` nothing of the size of a leaf is made.
    """
    found = [Use() for _ in range(num_leaves)]
    views, products = dict[Any, View](), dict[Any, int]()
    for leaf, variable in enumerate(closed.jaxpr.invars[:num_leaves]):
        shape = variable.aval.shape
        places: Any = np.broadcast_to(np.int8(0), shape)
        if indices:
            places = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
        views[variable] = View(leaf, places)
    _note(closed.jaxpr, views, products, found)
    for variable in closed.jaxpr.outvars:
        if _in(variable, views):
            found[views[variable].leaf].operations.append("return")
    return found


def _note(jaxpr: Any, views: dict[Any, View], products: dict[Any, int], found: list[Use]) -> None:
    """`products` are variables that hold a product as it is: with which leaf."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        held = {place: views[v] for place, v in enumerate(equation.invars) if _in(v, views)}
        if held and name in _INNER:
            _note_inside(equation, views, products, found)
        elif len(held) == 1:
            ((place, view),) = held.items()
            _note_one(equation, place, view, views, products, found[view.leaf])
        else:
            for view in held.values():
                found[view.leaf].operations.append(name)
            if name in PRODUCTS:
                products[equation.outvars[0]] = -1
            elif name in _SAME and _in(equation.invars[0], products):
                products[equation.outvars[0]] = products[equation.invars[0]]


def _note_inside(
    equation: Any, views: dict[Any, View], products: dict[Any, int], found: list[Use]
) -> None:
    inner = _open(equation.params[_INNER[equation.primitive.name]])
    pairs = list(zip(equation.invars, inner.invars, strict=True))
    own_views = {own: views[given] for given, own in pairs if _in(given, views)}
    own_products = {own: products[given] for given, own in pairs if _in(given, products)}
    _note(inner, own_views, own_products, found)
    for given, own in zip(equation.outvars, inner.outvars, strict=True):
        if _in(own, own_views):
            views[given] = own_views[own]
        if _in(own, own_products):
            products[given] = own_products[own]


def _note_one(
    equation: Any,
    place: int,
    view: View,
    views: dict[Any, View],
    products: dict[Any, int],
    use: Use,
) -> None:
    """An equation that takes one view."""
    name, out = equation.primitive.name, equation.outvars[0]
    if name in _VIEWS:
        views[out] = View(view.leaf, _moved(equation, view.along, np))
        return
    use.operations.append(name)
    product = as_product(equation, place)
    if product is not None:
        use.index = product.kernel(view.along)
        use.tap = jax.ShapeDtypeStruct(out.aval.shape, out.aval.dtype)  # type: ignore[no-untyped-call]
        use.rows = len(product.outputs(np.broadcast_to(np.int8(0), out.aval.shape)))
    if name in PRODUCTS:
        products[out] = -1 if product is None else view.leaf
    elif name == "add" and _in(equation.invars[1 - place], products):
        use.added_to = products[equation.invars[1 - place]]


def run(
    closed: Any,
    arguments: Sequence[Any],
    taps: Mapping[int, jax.Array],
    directions: Mapping[int, jax.Array],
) -> tuple[jax.Array, dict[int, tuple[jax.Array, jax.Array]], dict[int, Matrix]]:
    """Run a traced program with something added to the products with some kernels.

    Parameters
    ----------
    closed : jax.extend.core.ClosedJaxpr
        Of a program whose first arguments are the leaves.
    arguments : sequence of arrays
        Of the program.
    taps, directions : mapping of int to array
        By the kernel's leaf: what is added to its product, and an array of the kernel's shape.

    Returns
    -------
    outputs : jax.Array
        The program's only result.
    layers : dict
        By leaf the layer's inputs ``(S, D)``, and the direction as ``(D, O)``.
    matrices : dict
        By leaf what makes ``(S, O)`` of a product.
    """
    found: dict[int, tuple[jax.Array, jax.Array]] = {}
    matrices: dict[int, Matrix] = {}
    invars = closed.jaxpr.invars
    views = {invars[leaf]: View(leaf, directions[leaf]) for leaf in taps}

    def inside(jaxpr: Any, constants: Sequence[Any], given: Sequence[Any], views: Any) -> Any:
        values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *given), strict=True))

        def value(variable: Any) -> Any:
            return variable.val if isinstance(variable, Literal) else values[variable]

        for equation in jaxpr.eqns:
            read = [value(v) for v in equation.invars]
            held = {place: views[v] for place, v in enumerate(equation.invars) if _in(v, views)}
            name = equation.primitive.name
            if held and name in _INNER:
                inner = equation.params[_INNER[name]]
                own = zip(equation.invars, _open(inner).invars, strict=True)
                below = {var: views[v] for v, var in own if _in(v, views)}
                results = inside(_open(inner), getattr(inner, "consts", ()), read, below)
                for given_var, var in zip(equation.outvars, _open(inner).outvars, strict=True):
                    if _in(var, below):
                        views[given_var] = below[var]
            else:
                results = _as_it_is(equation, read)
            if len(held) == 1 and name not in _INNER:
                ((place, view),) = held.items()
                product = as_product(equation, place)
                if name in _VIEWS:
                    along = _moved(equation, view.along, jnp)
                    views[equation.outvars[0]] = View(view.leaf, along)
                elif product is not None:
                    shape = equation.invars[place].aval.shape
                    inputs = product.inputs(read[product.operand], shape)
                    found[view.leaf] = inputs, product.kernel(view.along)
                    matrices[view.leaf] = product.outputs
                    results = [results[0] + taps[view.leaf]]
            values.update(zip(equation.outvars, results, strict=True))
        return [value(v) for v in jaxpr.outvars]

    (outputs,) = inside(closed.jaxpr, closed.consts, arguments, views)
    return outputs, found, matrices


def _as_it_is(equation: Any, read: Sequence[Any]) -> Any:
    """Results of one equation of a program."""
    bound = equation.primitive.get_bind_params(equation.params)
    # Earlier versions of JAX keep functions apart.
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    with equation.ctx.manager:
        results = equation.primitive.bind(*functions, *read, **params)
    return results if equation.primitive.multiple_results else [results]


def _moved(equation: Any, along: Any, numpy: Any) -> Any:
    """An array of a view's shape behind an equation that moves its numbers about."""
    name, shape = equation.primitive.name, equation.outvars[0].aval.shape
    if name in _SAME:
        return along
    if name == "transpose":
        return along.transpose(equation.params["permutation"])
    if name == "broadcast_in_dim":
        ones = [1] * len(shape)
        for axis, size in zip(equation.params["broadcast_dimensions"], along.shape, strict=True):
            ones[axis] = size
        return numpy.broadcast_to(along.reshape(ones), shape)
    return along.reshape(shape)


def _open(jaxpr: Any) -> Any:
    return getattr(jaxpr, "jaxpr", jaxpr)


def _in(variable: Any, known: Mapping[Any, Any]) -> bool:
    return not isinstance(variable, Literal) and variable in known
