"""Jacobian rows equal those of dense automatic differentiation."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from hoarfrost.curvature import JacobianPass
from hoarfrost.curvature.jacobian import CHUNK_BYTES
from hoarfrost.data.pieces import bucket_size, cut, piece_size
from hoarfrost.freezing import Subset, make_partition
from hoarfrost.likelihood import Bernoulli, Categorical, Gaussian
from hoarfrost.network import FunctionNetwork


def make(small, likelihood, trainable=None):
    partition = make_partition(small.params, trainable)
    size = ravel_pytree(partition.split(small.params)[0])[0].size
    network = FunctionNetwork(small.apply)
    return partition, JacobianPass(
        Subset(network, partition, small.params, {}), likelihood, 4, size
    )


def dense_jacobian(small, partition):
    trainable, frozen = partition.split(small.params)
    flat, unravel = ravel_pytree(trainable)
    return jax.jacobian(lambda v: small.apply(partition.merge(unravel(v), frozen), small.x))(flat)


@pytest.mark.parametrize(
    "trainable",
    [None, lambda path, _: path[0] == "first", lambda path, _: path == ("first", "b")],
    ids=["all", "hidden layer", "hidden bias"],
)
def test_without_a_likelihood_the_rows_are_the_jacobian(strict, small, trainable):
    partition, run = make(small, None, trainable)
    result = run(small.x, len(small.x))
    expected = dense_jacobian(small, partition)
    np.testing.assert_allclose(result.block, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        result.outputs, small.apply(small.params, small.x), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("likelihood", [Categorical(), Bernoulli(), Gaussian((0.5, 1.0, 2.0, 3.0))])
def test_rows_square_to_the_gauss_newton_matrix(small, likelihood):
    partition, run = make(small, likelihood)
    rows = np.asarray(run(small.x, len(small.x)).block, np.float64)
    jacobian = np.asarray(dense_jacobian(small, partition), np.float64)
    outputs = small.apply(small.params, small.x)
    curvature = np.asarray(likelihood.output_curvature(outputs), np.float64)
    expected = np.einsum("ncp,ncd,ndq->pq", jacobian, curvature, jacobian)
    flat = rows.reshape(-1, rows.shape[2])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(flat.T @ flat, expected, atol=200 * np.finfo("f4").eps * scale)


def test_padding_gives_rows_of_zeros(small):
    _, run = make(small, Categorical())
    full = run(small.x, 12)
    padded = run(cut(small.x, 0, 12, 7), 7)
    np.testing.assert_array_equal(padded.block[:7], full.block[:7])
    assert not np.asarray(padded.block[7:]).any()


def test_rows_of_a_chunk_stay_near_the_byte_limit(small):
    _, run = make(small, None)
    assert run.max_points * 4 * run.num_params * 4 <= CHUNK_BYTES
    assert (run.max_points + 1) * 4 * run.num_params * 4 > CHUNK_BYTES


@pytest.mark.parametrize("size", [1, 7, 8, 9, 100, 1000, 1001, 5000])
@pytest.mark.parametrize("limit", [1, 16, 1000, 4096])
def test_piece_sizes_cover_a_batch_within_the_limit(size, limit):
    piece = piece_size(size, limit)
    assert 1 <= piece <= limit
    assert -(-size // piece) == -(-size // limit)
    bucket = bucket_size(size, limit)
    assert piece <= bucket <= limit
    assert bucket < 2 * piece if piece <= 16 else bucket <= piece * 9 / 8


def test_sizes_of_calls_fall_into_few_buckets():
    assert len({bucket_size(size, 4096) for size in range(1, 4097)}) <= 70


def test_pieces_are_padded_by_a_real_point():
    x = np.arange(10).reshape(5, 2)
    np.testing.assert_array_equal(cut(x, 3, 4, 2), x[[3, 4, 4, 4]])
    assert cut(x, 0, 5, 5) is x
