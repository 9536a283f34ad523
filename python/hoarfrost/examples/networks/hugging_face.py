"""A model of transformers, by torchax: ``python -m hoarfrost.examples.networks.hugging_face``."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from hoarfrost.examples.networks.demonstration import (
    Apply,
    Data,
    check_installed,
    show,
    versions,
)
from hoarfrost.examples.networks.pytorch import check_evaluation_mode
from hoarfrost.types import Path, Tree

_TOKENS, _CLASSES, _LENGTH, _PAD = 60, 3, 12, 0


def as_function(model: Any) -> tuple[Apply, Tree]:
    """A model of transformers as ``(apply, params)``: inputs are a dict of its arguments.

    Such as ``{"input_ids": ..., "attention_mask": ...}``; outputs are its logits.

    Raises
    ------
    InvalidArgumentError
        If the model is in training mode.
    """
    import torchax

    check_evaluation_mode(model)
    params, call = torchax.extract_jax(model)

    def apply(params: Tree, inputs: Tree) -> Any:
        # What the model returns is no tree of JAX: its logits are taken out here.
        return call(params, (), {name: jnp.asarray(x) for name, x in inputs.items()})["logits"]

    return apply, params


def head(path: Path, value: Any) -> bool:
    """Choose the classifier's leaves."""
    return str(path[0]).startswith("classifier.")


def network(seed: int = 0) -> Any:
    """A small BERT of random weights."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=_TOKENS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=_LENGTH,
        num_labels=_CLASSES,
        initializer_range=0.2,
    )
    return BertForSequenceClassification(config).eval()


def sequences(size: int = 400, seed: int = 0) -> Data:
    """Sequences of tokens, padded at their end: each class has tokens that it likes.

    Those of another kind are made of tokens that no class has.
    """
    rng = np.random.default_rng(seed)

    def batch(likes: np.ndarray) -> Tree:
        own = 1 + 10 * likes[:, None] + rng.integers(0, 10, (len(likes), _LENGTH))
        common = rng.integers(31, 41, own.shape)
        ids = np.where(rng.random(own.shape) < 0.9, own, common)
        mask = np.arange(_LENGTH) < rng.integers(_LENGTH // 2, _LENGTH + 1, (len(likes), 1))
        return {"input_ids": np.where(mask, ids, _PAD), "attention_mask": mask.astype(np.int32)}

    targets = rng.integers(0, _CLASSES, 2 * size)
    unseen = np.full(size, 4)
    train, test = targets[:size], targets[size:]
    return Data((batch(train), train), (batch(test), test), batch(unseen), "tokens never seen")


def main() -> None:
    """Print the table."""
    check_installed(torch="torch<2.13", torchax="torchax", transformers="transformers")
    apply, params = as_function(network())
    title = f"Hugging Face ({versions('transformers', 'torch', 'torchax')})"
    show(title, apply, params, head, sequences())


if __name__ == "__main__":
    main()
