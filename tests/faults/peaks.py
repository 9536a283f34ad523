"""Child: what the plan says of each verb, and the peak that it has, in bytes beside what was held.

Arguments: structure, size, points. Programs are compiled before on a small problem, and the
parameters lie on the device.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys

import jax
import jax.numpy as jnp
from posteriors import VERBS, Problem

import hoarfrost
from hoarfrost.benchmark.memory import mark, peak_bytes


def settled():
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return mark()


def main(structure, size, points):
    small = Problem(structure, 60, int(points))
    posterior = small.fit()
    for verb in ("tune", "functional variance"):
        VERBS[verb](small, posterior)
    problem = Problem(structure, int(size), int(points))
    problem.params = jax.tree.map(jnp.asarray, problem.params)
    likelihood = problem.options.get("likelihood", "categorical")
    plan = hoarfrost.plan(problem.apply, problem.params, problem.x, likelihood=likelihood)
    name, keep = problem.options["hessian_structure"], "in place" not in structure
    held = settled()
    posterior = problem.fit(batches=3)
    measured = {"fit": peak_bytes() - held}
    for verb, run in (("tune", "tune"), ("predict", "functional variance")):
        settled()
        VERBS[run](problem, posterior)
        measured[verb] = peak_bytes() - held
    print(json.dumps({"said": plan.by_verb(name, keep), "measured": measured}))


if __name__ == "__main__":
    main(*sys.argv[1:])
