"""A vision transformer of jax-ml/bonsai: ``python -m hoarfrost.examples.networks.bonsai_vit``."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from flax import nnx

from hoarfrost.examples.networks.demonstration import Apply, digits, show
from hoarfrost.network import as_network
from hoarfrost.types import Path, Tree


def as_function(module: Any) -> tuple[Apply, Tree]:
    """An NNX module as ``(apply, params)``, in evaluation mode; one whose call wants `rngs` too.

    ``params`` are copies of its parameters. `hoarfrost.fit_laplace` and `hoarfrost.plan` take the
    module as it is as well, ``fit_laplace(module, None, loader)``, and give the same.
    """
    network, params, mutable = as_network(module, None)
    return lambda params, inputs: network.evaluate(params, mutable, inputs), params


def head(path: Path, value: Any) -> bool:
    """Choose the classifier's leaves."""
    return path[0] == "classifier"


def network(seed: int = 0) -> Any:
    """A small vision transformer of random weights, for images of 8 x 8 x 1."""
    from bonsai.models.vit.modeling import ModelConfig, ViTClassificationModel

    config = ModelConfig(
        image_size=(8, 8),
        patch_size=(2, 2),
        num_channels=1,
        hidden_dim=64,
        attn_dropout_prob=0.0,
        dropout_prob=0.1,
        num_heads=4,
        mlp_dim=128,
        eps=1e-6,
        num_layers=2,
        num_labels=10,
    )
    return ViTClassificationModel(config, rngs=nnx.Rngs(seed))


def main() -> None:
    """Print the table."""
    if importlib.util.find_spec("bonsai") is None:
        sys.exit(
            "this example needs bonsai, which no index has under that name: install it from its "
            "repository, jax-ml/bonsai on GitHub"
        )
    apply, params = as_function(network())
    show("A vision transformer of jax-ml/bonsai", apply, params, head, digits(8, 8, 1))


if __name__ == "__main__":
    main()
