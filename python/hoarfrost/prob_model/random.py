"""The stream of random keys that a model draws from when it is given none."""

from __future__ import annotations

from typing import Any

import jax

from hoarfrost.checks import is_key, is_whole, plain, seed_from_key, shown
from hoarfrost.errors import InvalidArgumentError

# Keeps the stream apart from the keys of initialisation and training, which come from the seed.
_STREAM, _TRAINING = 1, 2

# Fortuna initialises the network from the fourth key that its generator hands out.
_INITIALISATION_DRAWS = 4


class RandomNumberGenerator:
    """A stream of keys from a seed; no key that it hands out tells of a later one.

    Parameters
    ----------
    seed : int or jax.Array
        Not negative; a key stands for a seed.
    """

    def __init__(self, seed: Any) -> None:
        if is_key(seed):
            seed = seed_from_key(seed)
        seed = plain(seed)
        if not is_whole(seed, 0) or int(seed) >= 2**63:
            raise InvalidArgumentError(
                f"seed is {shown(seed)}; give an integer from 0 to 2**63 - 1, or a key such as "
                "jax.random.PRNGKey(0)"
            )
        self.seed: int = int(seed)
        self._key: jax.Array | None = None

    def get(self) -> jax.Array:
        """The next key of the stream."""
        if self._key is None:
            self._key = jax.random.fold_in(jax.random.PRNGKey(self.seed), _STREAM)
        handed_out: jax.Array
        self._key, handed_out = jax.random.split(self._key)
        return handed_out

    def initialisation_keys(self) -> tuple[jax.Array, jax.Array]:
        """Keys of the "params" and "dropout" streams of a network's initialisation.

        They are those that Fortuna arrives at, so that the same seed starts from the same
        parameters; the same at every call.
        """
        key = jax.random.PRNGKey(self.seed)
        for _ in range(_INITIALISATION_DRAWS):
            key = jax.random.split(key)[0]
        _, params_key, dropout_key = jax.random.split(key, 3)
        return params_key, dropout_key

    def training_key(self) -> jax.Array:
        """The key of the dropout of training; the same at every call."""
        return jax.random.fold_in(jax.random.PRNGKey(self.seed), _TRAINING)
