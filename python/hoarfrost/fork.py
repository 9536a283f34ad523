"""What does not work in a forked child: JAX's threads stay behind in its parent."""

from __future__ import annotations

import os
import sys

from hoarfrost.errors import ForkedProcessError

_STATE = {"jax": False, "lost": False}


def check_not_forked(what: str) -> None:
    """Raise `ForkedProcessError` in a process that was forked from one that had used JAX.

    JAX would wait for threads that are not there. The compiled core has its own, and works.
    """
    if _STATE["lost"]:
        raise ForkedProcessError(
            f"{what} needs JAX, which does not work in process {os.getpid()}: it was forked from a "
            "process that had used JAX. Start processes with the 'spawn' or 'forkserver' method "
            "(multiprocessing.set_start_method), or fork before JAX is used; precision, "
            "covariance, variance and log_marginal_likelihood of a posterior work here"
        )


def _before() -> None:
    bridge = sys.modules.get("jax._src.xla_bridge")
    # A version of JAX that does not say whether it has started is taken for one that has.
    started = getattr(bridge, "backends_are_initialized", lambda: True)
    _STATE["jax"] = bridge is not None and bool(started())


def _in_child() -> None:
    _STATE["lost"] = _STATE["lost"] or _STATE["jax"]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)
