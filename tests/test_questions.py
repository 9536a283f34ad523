"""The same question has the same bits, whatever was asked before; arrays come as they are."""

from __future__ import annotations

import numpy as np
import pytest

from hoarfrost import _core, errors, fit_laplace

NUM_DATA, NUM_FEATURES, CLASSES = 200, 40, 4


@pytest.fixture
def posterior():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((NUM_DATA, NUM_FEATURES)).astype(np.float32)
    y = generator.integers(0, CLASSES, NUM_DATA)
    return fit_laplace(
        lambda params, inputs: inputs @ params["w"],
        {"w": 0.1 * generator.standard_normal((NUM_FEATURES, CLASSES)).astype(np.float32)},
        [(x, y)],
        progress=False,
    )


@pytest.mark.parametrize("ask", ["functional_covariance", "functional_variance", "predict"])
@pytest.mark.parametrize("points", [5, 300])
def test_the_number_of_points_decides_and_never_history(posterior, ask, points):
    x = np.random.default_rng(1).standard_normal((300, NUM_FEATURES)).astype(np.float32)
    question = getattr(posterior, ask)
    first = np.asarray(question(x[:points]))
    posterior.variance()
    posterior.functional_covariance(x)  # makes blocks that few points do not use
    np.testing.assert_array_equal(np.asarray(question(x[:points])), first)
    posterior.drop_cache()
    np.testing.assert_array_equal(np.asarray(question(x[:points])), first)


def test_few_points_and_many_agree_to_rounding(posterior):
    x = np.random.default_rng(1).standard_normal((300, NUM_FEATURES)).astype(np.float32)
    many = posterior.functional_covariance(x)
    few = np.concatenate([posterior.functional_covariance(part) for part in np.split(x, 60)])
    assert not np.array_equal(many, few)  # another way, or this shows nothing
    np.testing.assert_allclose(many, few, rtol=1e-10, atol=1e-12)


def test_misaligned_arrays_are_copied():
    rows = np.random.default_rng(2).standard_normal((6, 3))
    for dtype in (np.float32, np.float64):
        aligned = rows.astype(dtype)
        raw = np.zeros(aligned.nbytes + 1, np.uint8)
        misaligned = raw[1:].view(dtype).reshape(aligned.shape)
        misaligned[...] = aligned
        assert not misaligned.flags.aligned
        curvatures = [_core.FullCurvature(3) for _ in range(2)]
        for curvature, values in zip(curvatures, (aligned, misaligned), strict=True):
            curvature.add_rows(values)
        expected, ours = (c.factor(np.ones(3)).precision(np.arange(3)) for c in curvatures)
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: _core.HeadCurvature("softmax", 3, 4),
        lambda: _core.HeadCurvature("independent", 3, 4),
        lambda: _core.FullCurvature(12),
        lambda: _core.DiagonalCurvature(12),
    ],
)
def test_merged_curvatures_are_that_of_all_points(make):
    generator = np.random.default_rng(3)
    features, outputs = generator.standard_normal((50, 4)), generator.random((50, 3))
    rows = generator.standard_normal((50, 12))

    def over(part):
        curvature = make()
        if isinstance(curvature, _core.HeadCurvature):
            curvature.add(features[part], outputs[part])
        else:
            curvature.add_rows(rows[part])
        return curvature

    def precision(curvature):
        factor = curvature.factor(np.ones(12))
        if isinstance(curvature, _core.DiagonalCurvature):
            return 1 / factor.variance()
        return factor.precision(np.arange(12))

    whole, first, second = over(slice(None)), over(slice(0, 20)), over(slice(20, None))
    first.merge(second)
    np.testing.assert_allclose(precision(first), precision(whole), rtol=1e-13, atol=1e-13)
    # What was merged stays as it is, and nothing is merged with itself.
    np.testing.assert_array_equal(precision(second), precision(over(slice(20, None))))
    with pytest.raises((ValueError, RuntimeError)):
        first.merge(first)


def test_sizes_that_no_machine_has_saturate():
    most = 2**64 - 1
    for size in (2**32, 2**40, 2**48, 2**62):
        curvature, factor, _ = _core.full_bytes(size)
        assert factor >= curvature >= min(4 * size**2, most)
        assert _core.factor_flops(size) >= size**3 / 3
        assert min(_core.head_bytes("softmax", size, 10)[:2]) >= min(2 * (9 * size) ** 2, most) / 9


def test_a_head_that_is_given_up_is_gone():
    generator = np.random.default_rng(4)
    for kind in ("softmax", "independent"):
        kept, given = (_core.HeadCurvature(kind, 3, 4) for _ in range(2))
        x, f = generator.standard_normal((9, 4)), generator.random((9, 3))
        for curvature in (kept, given):
            curvature.add(x, f)
        prior = np.arange(1.0, 13.0)
        with pytest.raises(errors.InvalidArgumentError):
            given.factor(-prior, keep=False)
        ours = given.factor(prior, keep=False).precision(np.arange(12))
        np.testing.assert_array_equal(ours, kept.factor(prior).precision(np.arange(12)))
        for again in (lambda: given.factor(prior), lambda: given.add(x, f)):  # noqa: B023
            with pytest.raises(errors.CurvatureStateError, match="given up"):
                again()


def test_a_layer_without_outputs_is_refused():
    rows = _core.DiagonalCurvature(4)
    for outputs in (0, 3):
        with pytest.raises(errors.ShapeError, match="parameters of the head"):
            rows.add_head(np.ones((2, 1)), np.ones((2, outputs)))
    for curvature in (rows, _core.FullCurvature(4)):
        with pytest.raises(errors.ShapeError, match="number of outputs"):
            curvature.factor(np.ones(4)).functional_covariance(np.ones((2, 0, 4)))
