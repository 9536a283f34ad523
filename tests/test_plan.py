"""The memory plan: what it counts, what it chooses, and how it reads."""

from __future__ import annotations

import numpy as np
import pytest

from hoarfrost import _core
from hoarfrost.errors import InvalidArgumentError, MemoryLimitError
from hoarfrost.laplace import MemoryPlan, plan_laplace
from hoarfrost.laplace.plan import make_plan
from hoarfrost.laplace.structure.cost import Cost
from hoarfrost.memory import available_bytes, check_memory_budget


def plan(available, head=None, between=0, panel=0):
    return MemoryPlan(
        num_params=1000,
        head=head,
        costs={
            "full": Cost(300, 400, panel, 0 if head is None else 250, between, in_place=True),
            "diag": Cost(10, 20),
        },
        bytes_available=available,
    )


@pytest.mark.parametrize(
    ("available", "structure", "keep", "expected"),
    [
        (None, "full", "auto", ("full", True)),
        (700, "full", "auto", ("full", True)),
        (699, "full", "auto", ("full", False)),
        (400, "full", False, ("full", False)),
        (399, "auto", "auto", ("diag", True)),
        (699, "auto", True, ("diag", True)),
        (30, "diag", "auto", ("diag", True)),
    ],
)
def test_choice(available, structure, keep, expected):
    assert plan(available).choose(structure, keep) == expected


@pytest.mark.parametrize(
    ("available", "structure", "keep", "needed", "remedy"),
    [
        (399, "full", "auto", 400, "what would fit: hessian_structure='diag' (30 B)"),
        (699, "full", True, 700, "hessian_structure='full' (400 B, with keep_curvature=False)"),
        (29, "auto", "auto", 30, "no structure would fit"),
    ],
)
def test_refusal_says_what_is_needed_and_what_would_fit(available, structure, keep, needed, remedy):
    with pytest.raises(MemoryLimitError) as caught:
        plan(available).choose(structure, keep)
    assert caught.value.bytes_needed == needed
    assert f"P = 1,000 parameters needs {needed} B, and there are {available} B" in str(
        caught.value
    )
    assert remedy in str(caught.value)


def test_a_curvature_that_is_given_up_goes_as_the_factor_takes_it_up():
    assert plan(None, head="softmax").bytes_needed("full", False) == 650
    assert plan(None, head="softmax").bytes_needed("full", True) == 950
    assert plan(None).bytes_needed("full", False) == 400
    # A panel goes before there is a factor.
    assert plan(None, panel=50).bytes_needed("full", False) == 400
    assert plan(None, panel=500).bytes_needed("full", False) == 800
    assert plan(None, panel=500).bytes_needed("full", True) == 800
    # What stands between them is there beside the curvature, or both if that is kept.
    assert plan(None, head="softmax", between=500).bytes_needed("full", False) == 800
    assert plan(None, head="softmax", between=500).bytes_needed("full", True) == 1200


@pytest.mark.parametrize(("classes", "width"), [(3, 5), (10, 65), (4, 130)])
@pytest.mark.parametrize("kind", ["softmax", "independent"])
def test_the_plan_is_what_is_held(kind, classes, width):
    """Byte for byte: the sum while points are added and afterwards, its factor, and its cache."""
    curvature, factor, panel, cache, _ = _core.head_bytes(kind, classes, width)
    head = _core.HeadCurvature(kind, classes, width)
    head.add(np.ones((1, width)), np.ones((1, classes)))
    assert head.nbytes == curvature + panel
    posterior = head.factor(np.ones(classes * width))
    assert (head.nbytes, posterior.nbytes) == (curvature, factor)
    posterior.functional_variance(np.ones((1, width)), 10**9)
    assert posterior.nbytes == factor + cache


@pytest.mark.parametrize("size", [20, 257, 650, 1300])
def test_the_plan_of_any_parameters_is_what_is_held(size):
    curvature, factor, panel = _core.full_bytes(size)
    full = _core.FullCurvature(size)
    full.add_rows(np.ones((1_023, size), np.float32))
    assert full.nbytes == curvature + panel
    assert full.factor(np.ones(size)).nbytes == factor
    assert full.nbytes == curvature


def test_blocks_by_class_are_counted_while_they_stand_between():
    shared, other = (make_plan(600, "softmax", 6, 100, same_prior=same) for same in (True, False))
    assert shared.costs["full"].between == 0
    assert other.costs["full"].between == 8 * 21 * 100 * 101 // 2


def test_a_head_takes_less_than_the_same_number_of_other_parameters():
    head = make_plan(5130, "softmax", 10, 513)
    dense = make_plan(5130)
    by_class = make_plan(5130, "softmax", 10, 513, same_prior=False)
    assert head.costs["full"].factor < 0.9 * by_class.costs["full"].factor
    assert head.bytes_needed("full", False) < 0.8 * dense.bytes_needed("full", True)
    # One packed triangle beside one full float64 matrix, with room for the tiles of its diagonal.
    assert 0.5 * 8 * 5130**2 <= dense.costs["full"].factor <= 0.56 * 8 * 5130**2


def test_the_plan_of_a_model_finds_its_head(small):
    found = plan_laplace(
        small.apply, small.params, small.x, trainable=lambda path, _: "last" in path
    )
    assert (found.num_params, found.head) == (16, "softmax")
    general = plan_laplace(small.apply, small.params, small.x)
    assert (general.num_params, general.head) == (25, None)


def test_it_reads_as_a_table():
    assert str(plan(450, head="softmax")).splitlines() == [
        "posterior over 1,000 parameters (last layer, softmax)",
        "  full       650 B  does not fit",
        "  diag        30 B  fits",
        "  there are 450 B",
    ]
    assert "  full       400 B  fits without keeping the curvature" in str(plan(450))


def test_the_machine_says_what_it_has():
    available = available_bytes()
    assert available is None or available > 2**20


@pytest.mark.parametrize("value", [0, -5, 1.0, True, "1GB"])
def test_memory_budget_is_a_positive_whole_number(value):
    with pytest.raises(InvalidArgumentError, match="memory_budget is"):
        check_memory_budget(value)
