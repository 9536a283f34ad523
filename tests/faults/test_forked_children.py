"""A forked child: what the core does works there, whoever had a turn; JAX is missed at once."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.mark.parametrize("busy", ["idle", "busy"])
@pytest.mark.parametrize("structure", ["softmax", "full"])
def test_verbs_of_the_core_work(child, structure, busy):
    found = child("forked.py", structure, "core", busy)
    assert set(found.values()) == {"right"}, found


@pytest.mark.parametrize("busy", ["idle", "busy"])
@pytest.mark.parametrize("structure", ["gaussian", "diag layer"])
def test_verbs_of_the_network_are_refused_at_once(child, structure, busy):
    for verb, said in child("forked.py", structure, "network", busy).items():
        assert said.startswith("hoarfrost.errors.ForkedProcessError"), (verb, said)
