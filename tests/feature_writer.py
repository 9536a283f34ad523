"""Child: makes a folder of features. Arguments: the folder, and points of a shard."""

from __future__ import annotations

import functools
import sys

import jax
from feature_cases import Net, loader, variables

import hoarfrost
from hoarfrost.curvature import feature_store


def make(path, points):
    feature_store._AT_ONCE = int(points) * 4 * 6
    return hoarfrost.features(Net(), variables(), loader(batch_size=4), path=path, progress=False)


if __name__ == "__main__":
    # As the parent does: the bits of new parameters depend on it.
    jax.config.update("jax_disable_most_optimizations", True)
    # Everything is compiled before the parent is told to begin.
    functools.partial(hoarfrost.features, progress=False)(Net(), variables(), loader(batch_size=4))
    print("ready", flush=True)
    sys.stdin.readline()
    make(*sys.argv[1:])
    print("done", flush=True)
