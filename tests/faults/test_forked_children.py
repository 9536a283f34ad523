"""A forked child: what the core does works there, whoever had a turn at the fork."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.mark.parametrize("busy", ["idle", "busy"])
@pytest.mark.parametrize("structure", ["softmax", "full"])
def test_verbs_of_the_core_work(child, structure, busy):
    found = child("forked.py", structure, "core", busy)
    assert set(found.values()) == {"right"}, found
