"""By what chains are known again."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.curvature.feature_store import Digest
from hoarfrost.data.checked import data_batches
from hoarfrost.dtypes import at_least_float32
from hoarfrost.laplace.resume_folder import OF_SUBSET, as_read, fingerprint_of_subset
from hoarfrost.laplace.saved_parts import likelihood_header
from hoarfrost.methods.chain_run import ChainPlan, ChainRun
from hoarfrost.storage import digest
from hoarfrost.types import Tree

# What the entries are called where they differ.
OF_CHAINS = {
    **OF_SUBSET,
    "likelihood": "with another likelihood or mask",
    "prior": "with another prior",
    "data": "of other data, or in other batches or another order (does the loader shuffle?)",
    "method": "of another method",
    "steps": "with other numbers of samples or steps, other step sizes or momenta",
    "preconditioner": "with another preconditioner",
    "seed": "with another seed",
    "chains": "with another number of chains",
    "evaluation": (
        "with other batches, in another precision, or with the frozen part run otherwise "
        "(cache_features)"
    ),
}


def fingerprint_of_chains(run: ChainRun, per_file: int) -> dict[str, Any]:
    """All that the bits of their samples depend on; goes over the data once."""
    problem, plan = run.problem, run.plan
    found = Digest()
    for batch in data_batches(problem.data, one_shape=False, masks=True):
        found.add(batch)
    pace = {"size": plan.pace.size, "persistence": plan.pace.persistence, "noise": plan.pace.noise}
    prior = problem.given.prior
    return as_read(
        {
            **fingerprint_of_subset(problem.whole, problem.example),
            "likelihood": [likelihood_header(problem.likelihood), problem.points.ignored_label],
            "prior": [type(prior).__qualname__, _leaves_digest(prior)],
            "data": [found.hexdigest(), problem.num_data],
            "method": plan.name,
            "steps": digest({**pace, "keep": np.asarray(plan.keep)}),
            "preconditioner": _preconditioner_digest(plan, problem.whole.trainable),
            "seed": [str(run.key.dtype), np.asarray(_words(run.key)).tolist()],
            "chains": [[group.start, group.stop] for group in run.groups],
            "evaluation": [
                type(run.batches).__name__,
                run.batches.per_epoch,
                problem.subset.network is problem.whole.network,
                problem.kind.trains,
                jax.dtypes.canonicalize_dtype(np.float64).name,
                per_file,
            ],
        }
    )


def _words(key: jax.Array) -> jax.Array:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(key) if typed else key


def _leaves_digest(tree: Tree) -> str:
    return digest({str(k): np.asarray(leaf) for k, leaf in enumerate(jax.tree.leaves(tree))})


def _preconditioner_digest(plan: ChainPlan, trainable: Tree) -> str:
    """Of what a preconditioner computes, as a program with its constants."""
    own = plan.preconditioner
    wide = jax.tree.map(at_least_float32, trainable)

    def once(trainable: Tree, gradient: Tree) -> Tree:
        state = own.update(own.init(trainable), gradient)
        return state, own.root(state, gradient)

    program = jax.make_jaxpr(once)(wide, wide)
    text = np.frombuffer(str(program.jaxpr).encode(), np.uint8)
    consts = {str(place): np.asarray(leaf) for place, leaf in enumerate(program.consts)}
    return digest({"program": text, **consts})
