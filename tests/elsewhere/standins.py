"""What behaves as libraries that are not installed here, as far as the recipes use them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


class VisionNetwork(nnx.Module):
    """As bonsai's: a call that wants `rngs`, dropout that is on when new."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.projection = nnx.Conv(1, 16, (2, 2), (2, 2), rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=False)
        self.classifier = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, images: Any, *, rngs: nnx.Rngs | None) -> Any:
        hidden = nnx.relu(self.norm(self.projection(images))).mean((1, 2))
        return self.classifier(self.dropout(hidden, rngs=rngs))


def vision_network() -> VisionNetwork:
    return VisionNetwork(nnx.Rngs(0))


class TorchModule:
    """A module whose parameters and buffers have PyTorch's names and layout (outputs, inputs)."""

    training = False

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.state = {
            "body.num_batches_tracked": np.asarray(3, np.int32),
            "body.weight": rng.normal(size=(32, 64)).astype(np.float32) / 8,
            "body.bias": np.zeros(32, np.float32),
            "head.bias": rng.normal(size=10).astype(np.float32),
            "head.weight": rng.normal(size=(10, 32)).astype(np.float32) / 6,
        }

    def named_modules(self) -> list[tuple[str, Any]]:
        return [("", self)]

    def forward(self, inputs: Any, state: Any = None) -> Any:
        state = self.state if state is None else state
        hidden = jnp.tanh(inputs @ state["body.weight"].T + state["body.bias"][None])
        return hidden @ state["head.weight"].T + state["head.bias"][None]


def torchax() -> ModuleType:
    """A module with `extract_jax`."""
    made = ModuleType("torchax")

    def extract_jax(module: TorchModule) -> tuple[Any, Any]:
        def call(params: Any, args: Any, kwargs: Any = None) -> Any:
            return module.forward(*args, state=params)

        return jax.tree.map(jnp.asarray, module.state), call

    made.extract_jax = extract_jax  # type: ignore[attr-defined]
    return made
