"""A PyTorch module, by torchax: ``python -m hoarfrost.examples.networks.pytorch``."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.examples.networks.demonstration import (
    Apply,
    check_installed,
    digits,
    show,
    versions,
)
from hoarfrost.types import Path, Tree


def as_function(module: Any) -> tuple[Apply, Tree]:
    """A module in evaluation mode as ``(apply, params)``: inputs are its one argument.

    ``params`` are copies of its parameters and buffers, by PyTorch's own names, such as
    "head.weight".

    Raises
    ------
    InvalidArgumentError
        If the module, or one in it, is in training mode.
    """
    import torchax

    check_evaluation_mode(module)
    params, call = torchax.extract_jax(module)
    # torchax takes JAX's arrays, not NumPy's.
    return lambda params, inputs: call(params, (jnp.asarray(inputs),)), params


def check_evaluation_mode(module: Any) -> None:
    """Raise `InvalidArgumentError` where dropout would draw, or BatchNorm look at its batch."""
    training = [name or "itself" for name, part in module.named_modules() if part.training]
    if training:
        raise InvalidArgumentError(
            f"the PyTorch module is in training mode ({', '.join(training[:3])}); call "
            "module.eval() first"
        )


def head(path: Path, value: Any) -> bool:
    """Choose the leaves of the module that is called "head"."""
    return str(path[0]).startswith("head.")


def network(seed: int = 0) -> Any:
    """A convolution with BatchNorm, dropout and a head, of random weights, in evaluation mode."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    layers = {
        "conv": nn.Conv2d(1, 16, 3, padding=1),
        "norm": nn.BatchNorm2d(16),
        "relu": nn.ReLU(),
        "pool": nn.AvgPool2d(2),
        "flat": nn.Flatten(),
        "dropout": nn.Dropout(0.5),
        "head": nn.Linear(256, 10),
    }
    module = nn.Sequential()
    for name, layer in layers.items():
        module.add_module(name, layer)
    return module.eval()


def main() -> None:
    """Print the table."""
    check_installed(torch="torch<2.13", torchax="torchax")
    apply, params = as_function(network())
    show(f"PyTorch ({versions('torch', 'torchax')})", apply, params, head, digits(1, 8, 8))


if __name__ == "__main__":
    main()
