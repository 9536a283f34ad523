"""The stream of random keys that a model draws from when it is given none."""

from __future__ import annotations

from typing import Any

import jax

from hoarfrost.checks import is_key, is_whole, plain, seed_from_key, shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.fork import check_not_forked

# Keeps the stream apart from the keys of initialisation and training, which come from the seed.
_STREAM, _TRAINING = 1, 2


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
        check_not_forked("a random key")
        if self._key is None:
            self._key = jax.random.fold_in(jax.random.PRNGKey(self.seed), _STREAM)
        handed_out: jax.Array
        self._key, handed_out = jax.random.split(self._key)
        return handed_out

    def initialisation_keys(
        self, draw: int, num_networks: int = 1
    ) -> list[tuple[jax.Array, jax.Array]]:
        """Keys of the "params" and "dropout" streams by which networks are initialised.

        They are those that Fortuna arrives at, so that the same seed starts from the same
        parameters; the same at every call.

        Parameters
        ----------
        draw : int
            Which of the keys of Fortuna's generator it is, from 1; it depends on the method.
        num_networks : int
            1 or 2.

        Returns
        -------
        list of (jax.Array, jax.Array)
            For each network its two keys; those of a second network are one and the same.
        """
        check_not_forked("initialisation")
        key = jax.random.PRNGKey(self.seed)
        for _ in range(draw):
            key = jax.random.split(key)[0]
        keys = jax.random.split(key, 1 + 2 * num_networks)
        pairs = [(keys[1], keys[2])]
        return pairs if num_networks == 1 else [*pairs, (keys[3], keys[3])]

    def training_key(self) -> jax.Array:
        """The key of the dropout of training; the same at every call."""
        check_not_forked("training")
        return jax.random.fold_in(jax.random.PRNGKey(self.seed), _TRAINING)
