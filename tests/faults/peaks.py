"""Child: what the plan says of each verb, and the peak that it has, in bytes beside what was held.

Arguments: structure, size, points. Programs are compiled before, by all that is measured, and the
parameters lie on the device. What is said of a sample and of a covariance is what its check of the
room asks for, beside what the posterior holds.
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
from hoarfrost.laplace import joint_covariance
from hoarfrost.laplace import posterior as posterior_module


def settled():
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return mark()


def layerwise(problem, posterior):
    posterior.optimize_prior_precision("weights_biases")


def several(problem, posterior):
    posterior.functional_variance([problem.x] * 3)


def room_of(run, problem, posterior):
    """Bytes that a verb asks for, those that it takes, and those that there were, in this order."""
    asked = []
    modules, check = (posterior_module, joint_covariance), posterior_module.check_room
    for module in modules:
        module.check_room = lambda what, needed, *rest: asked.append(needed)
    try:
        base = settled()
        run(problem, posterior)
        return max(asked), peak_bytes() - base, base
    finally:
        for module in modules:
            module.check_room = check


def main(structure, size, points):
    problem = Problem(structure, int(size), int(points))
    problem.params = jax.tree.map(jnp.asarray, problem.params)
    likelihood = problem.options.get("likelihood", "categorical")
    plan = hoarfrost.plan(problem.apply, problem.params, problem.x, likelihood=likelihood)
    name, keep = problem.options["hessian_structure"], "in place" not in structure
    posterior = problem.fit()
    for run in (several, VERBS["tune"], VERBS["sample"], VERBS["joint"]):
        run(problem, posterior)
    del posterior
    held = settled()
    posterior = problem.fit(batches=3)
    said, measured = plan.by_verb(name, keep), {"fit": peak_bytes() - held}
    verbs = {"tune": VERBS["tune"], "predict": several}
    if structure in ("gaussian", "bernoulli"):
        verbs = {"tune": layerwise, "predict": several}
    for verb, run in verbs.items():
        settled()
        run(problem, posterior)
        measured[verb] = peak_bytes() - held
    asking = ["sample", "joint"] + ["covariance"] * (posterior.num_params < 10000)
    for verb in asking:
        asked, taken, base = room_of(VERBS[verb], problem, posterior)
        said[verb], measured[verb] = asked + base - held, taken + base - held
    print(json.dumps({"said": said, "measured": measured}))


if __name__ == "__main__":
    main(*sys.argv[1:])
