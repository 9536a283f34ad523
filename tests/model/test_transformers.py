"""The vision transformer and the encoder of tokens: masks, pooling, LoRA and their inputs."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from flax.traverse_util import flatten_dict
from model_cases import CASES, IDS, KEY, MASK, evaluating, of_type, variables, with_weights

from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.model.attention import attend

CASE, VALUES = CASES["TransformerEncoder"], variables("TransformerEncoder")
# Other tokens where the mask leaves them out.
OTHER = np.where(MASK, IDS, (IDS + 3) % 11)


def both(**changes):
    """The network as functions of inputs, in Linen and in NNX, with the same weights."""
    network = CASE.linen(**changes)
    module = evaluating(with_weights(CASE.nnx(**changes), VALUES))
    return [lambda x: network.apply(VALUES, x), module]


@pytest.mark.parametrize("pool", ["mean", "first", "tokens"])
def test_tokens_that_the_mask_leaves_out_change_no_output(pool):
    for run in both(pool=pool):
        first, second = run((IDS, MASK)), run((OTHER, MASK))
        if pool == "tokens":
            assert first.shape == (6, 7, 3)
            first, second = first[MASK], second[MASK]
        np.testing.assert_array_equal(first, second)
        # Without the mask they do.
        assert not np.array_equal(run(IDS), run(OTHER))


def test_a_sequence_and_the_same_with_padding_are_one():
    for run in both():
        short = run(IDS[:, :3])
        padded = run((IDS, np.tile(np.arange(7) < 3, (6, 1))))
        np.testing.assert_allclose(padded, short, rtol=0, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_forms_of_inputs_are_one(masked):
    for run in both():
        mask = MASK if masked else np.ones_like(MASK)
        expected = run((IDS, mask))
        named = {"input_ids": IDS, "attention_mask": mask.astype(np.int32)}
        np.testing.assert_array_equal(run(named), expected)
        np.testing.assert_array_equal(run([IDS, mask]), expected)
        if not masked:
            np.testing.assert_allclose(run({"input_ids": IDS}), expected, rtol=0, atol=1e-5)
    padded = np.where(MASK, IDS, 0)
    for run, plain in zip(both(pad_id=0), both(), strict=True):
        np.testing.assert_array_equal(run(padded), plain((padded, MASK)))


def test_the_first_token_is_the_first_that_counts():
    left = np.roll(MASK, 1, axis=1) & (np.arange(7) > 0)
    left[0, 1:] = True
    for run, tokens in zip(both(pool="first"), both(pool="tokens"), strict=True):
        rows = np.arange(6), left.argmax(1)
        np.testing.assert_allclose(run((IDS, left)), tokens((IDS, left))[rows], rtol=0, atol=1e-6)


def test_a_row_without_a_token_is_finite():
    for run in both():
        assert np.isfinite(run((IDS, np.zeros_like(MASK)))).all()


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_that_of_flax(masked):
    query, key, value = jax.random.normal(KEY, (3, 6, 7, 8))
    mask = MASK if masked else None
    ours = attend(query, key, value, mask, 2, lambda weights: weights)
    split = (part.reshape(6, 7, 2, 4) for part in (query, key, value))
    theirs = nn.dot_product_attention(*split, mask=mask[:, None, None, :] if masked else None)
    np.testing.assert_allclose(ours, theirs.reshape(6, 7, 8), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["ViT", "TransformerEncoder"])
def test_lora_changes_nothing_at_the_start_and_something_later(name):
    case = CASES[name]
    with_lora, without = case.linen(), case.linen(lora_rank=0)
    start = with_lora.init(KEY, case.inputs)
    plain = without.init(KEY, case.inputs)
    kept = {p: v for p, v in flatten_dict(start).items() if "lora" not in "/".join(p)}
    jax.tree.map(np.testing.assert_array_equal, kept, flatten_dict(plain))
    expected = without.apply(plain, case.inputs)
    np.testing.assert_array_equal(with_lora.apply(start, case.inputs), expected)

    module = evaluating(with_weights(case.nnx(), start))
    np.testing.assert_allclose(module(case.inputs), expected, rtol=0, atol=1e-5)
    lora = of_type(module, nnx.LoRAParam)
    paths = {"/".join(map(str, path)) for path in flatten_dict(lora)}
    depth = 2
    assert len(paths) == depth * 2 * 2
    assert all(path.endswith(("lora_a", "lora_b")) and "attention" in path for path in paths)
    nnx.update(module, jax.tree.map(lambda x: jax.random.normal(KEY, x.shape), lora))
    assert not np.allclose(module(case.inputs), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (IDS[0], ShapeError, "batch, length"),
        (np.zeros((2, 129), int), ShapeError, "max_length, 128"),
        (IDS.astype(np.float32), InvalidArgumentError, "float32; give whole numbers"),
        ((IDS, MASK[:, :3]), ShapeError, "the mask has shape"),
        ((IDS, MASK, MASK), InvalidArgumentError, "3 arrays"),
        ({"ids": IDS}, InvalidArgumentError, "'input_ids'"),
        ({"input_ids": IDS, "token_type_ids": IDS}, InvalidArgumentError, "token_type_ids"),
    ],
)
def test_inputs_that_are_no_tokens_are_refused(inputs, error, message):
    for run in both():
        with pytest.raises(error, match=message):
            run(inputs)


def test_images_that_do_not_fit_are_refused():
    case, images = CASES["ViT"], CASES["ViT"].inputs
    values = variables("ViT")
    module = with_weights(case.nnx(), values)
    for run in (lambda x: case.linen().apply(values, x), module):
        with pytest.raises(ShapeError, match="give images"):
            run(images[0])
    with pytest.raises(ShapeError, match="divide into patches"):
        case.linen().apply(values, images[:, :15])
    with pytest.raises(ShapeError, match=r"and the network is for \(16, 16, 2\)"):
        module(images[:, :12])
