"""A traced program in two: what depends on its points alone, and what comes after it.

An equation is early where it depends on points and on nothing that is trained. What later
equations read of early ones is the cut. What depends on neither is worked out wherever it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var

from hoarfrost.jaxprs import bytes_of, multiply_adds

# Programs that mean no more than their equations. A custom derivative or a rematerialisation does,
# and a loop is one equation: these are not looked into.
_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr"}

# What makes an array larger and costs next to nothing: what it reads is kept instead.
_SPREADS = frozenset({"broadcast_in_dim", "convert_element_type"})


@dataclass(frozen=True, eq=False)
class Split:
    """A program ``(others, points) -> outputs`` in two.

    Attributes
    ----------
    head : ClosedJaxpr
        ``(others, points) -> kept``.
    tail : ClosedJaxpr
        ``(others, kept) -> outputs``.
    """

    head: ClosedJaxpr
    tail: ClosedJaxpr

    @property
    def kept(self) -> tuple[Any, ...]:
        """Shapes and dtypes of what the head gives."""
        return tuple(self.head.out_avals)

    @property
    def saved(self) -> int:
        """Products of matrices and convolutions in the head, in numbers that are multiplied."""
        return multiply_adds(self.head.jaxpr)

    @property
    def kept_bytes(self) -> int:
        """Of what the head gives."""
        return sum(map(bytes_of, self.kept))


def split(program: ClosedJaxpr, trains: Sequence[bool], num_points: int) -> Split | str:
    """A program cut where what is trained comes in, or why it cannot be.

    Parameters
    ----------
    program : ClosedJaxpr
        Its first result is taken.
    trains : sequence of bool
        Which of its arguments before the points are trained.
    num_points : int
        How many arguments, the last ones, are points.
    """
    if program.effects:
        return "the network has side effects, which belong to each step"
    whole = _Flat(program)
    others, points = whole.invars[: len(trains)], whole.invars[len(trains) :]
    assert len(points) == num_points
    trained = _reached(whole.equations, [v for v, t in zip(others, trains, strict=True) if t])
    pointwise = _reached(whole.equations, points)
    output = whole.output
    if output not in trained or output not in pointwise:
        return "the outputs do not depend on both the inputs and what is trainable"
    kept, late = _cut(whole.equations, output, pointwise, trained, points)
    if not any(v in pointwise for e in _towards(whole.equations, kept) for v in e.outvars):
        return "nothing is computed before what is trainable"
    dtypes: list[Any] = [getattr(v.aval, "dtype", None) for v in kept]
    if any(jnp.issubdtype(dtype, jax.dtypes.extended) for dtype in dtypes):
        return "keys of random numbers would have to be kept"
    head = whole.part(_towards(whole.equations, kept), whole.invars, kept)
    return Split(head, whole.part(late, [*others, *kept], [output]))


class _Flat:
    """A program without calls, as equations of which each variable is written once."""

    def __init__(self, program: ClosedJaxpr) -> None:
        self._whole = program.jaxpr
        self.invars = list(program.jaxpr.invars)
        self.equations: list[JaxprEqn] = []
        self._constants: dict[Var, Any] = {}
        self.output = self._add(program, self.invars)[0]

    def _add(self, program: ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
        """The equations of a program of these arguments; its results."""
        inside = program.jaxpr
        known: dict[Var, Any] = dict(zip(inside.invars, arguments, strict=True))
        for variable, value in zip(inside.constvars, program.consts, strict=True):
            known[variable] = Var(variable.aval)
            self._constants[known[variable]] = value

        def read(atom: Any) -> Any:
            return atom if isinstance(atom, Literal) else known[atom]

        for equation in inside.eqns:
            reads = list(map(read, equation.invars))
            called = equation.params.get(_CALLS.get(equation.primitive.name, ""))
            if isinstance(called, ClosedJaxpr):
                written = self._add(called, reads)
            else:
                written = [Var(variable.aval) for variable in equation.outvars]
                self.equations.append(equation.replace(invars=reads, outvars=written))
            known.update(zip(equation.outvars, written, strict=True))
        return list(map(read, inside.outvars))

    def part(
        self, equations: Sequence[JaxprEqn], invars: Sequence[Var], outvars: Sequence[Var]
    ) -> ClosedJaxpr:
        """Some of the equations as a program of their own."""
        read = {v for e in equations for v in _variables(e)}
        used = {v: value for v, value in self._constants.items() if v in read}
        made = self._whole.replace(
            constvars=list(used), invars=list(invars), outvars=list(outvars), eqns=list(equations)
        )
        return ClosedJaxpr(made, list(used.values()))


def _variables(equation: JaxprEqn) -> list[Var]:
    return [atom for atom in equation.invars if not isinstance(atom, Literal)]


def _reached(equations: Iterable[JaxprEqn], start: Iterable[Var]) -> set[Var]:
    """All that depends on some variables, these included."""
    found = set(start)
    for equation in equations:
        if not found.isdisjoint(_variables(equation)):
            found.update(equation.outvars)
    return found


def _towards(equations: Sequence[JaxprEqn], wanted: Iterable[Var]) -> list[JaxprEqn]:
    """The equations that some variables need, in order."""
    needed, found = set(wanted), []
    for equation in reversed(equations):
        if not needed.isdisjoint(equation.outvars):
            found.append(equation)
            needed.update(_variables(equation))
    return found[::-1]


def _cut(
    equations: Sequence[JaxprEqn],
    output: Var,
    pointwise: set[Var],
    trained: set[Var],
    points: Sequence[Var],
) -> tuple[list[Var], list[JaxprEqn]]:
    """What is kept of the early part, and the equations after it."""
    needed: set[Var] = {output}
    kept: list[Var] = []
    late: list[JaxprEqn] = []
    # From the last equation on, so that all that read a result were seen before it.
    for equation in reversed(equations):
        read = [v for v in equation.outvars if v in needed]
        if not read:
            continue
        early = read[0] in pointwise and read[0] not in trained
        if early and not _spreads(equation, needed):
            kept += read
        else:
            late.append(equation)
            needed.update(_variables(equation))
    kept += [v for v in points if v in needed]
    return kept[::-1], late[::-1]


def _spreads(equation: JaxprEqn, needed: set[Var]) -> bool:
    if equation.primitive.name not in _SPREADS:
        return False
    fresh = [v for v in _variables(equation) if v not in needed]
    return sum(bytes_of(v.aval) for v in fresh) < bytes_of(equation.outvars[0].aval)
