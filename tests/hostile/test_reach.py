"""Every public callable is reached by the campaign, or is said to need no entry, with a reason."""

from __future__ import annotations

import folders  # noqa: F401


def test_every_public_callable_has_an_entry_or_a_reason() -> None:
    from more_subjects import reason_of
    from public import public_callables
    from reach import subjects

    rows = subjects()
    reached = {getattr(row.documented, "__func__", row.documented) for row in rows.values()}
    without = {
        name
        for name, member in public_callables().items()
        if name not in rows and not reason_of(name, member, reached)
    }
    assert without == set()


def test_no_entry_and_no_reason_is_of_a_name_that_is_gone() -> None:
    from more_subjects import MORE, REASONS
    from public import public_callables

    assert {*MORE, *REASONS} - set(public_callables()) == set()


def test_every_argument_has_a_kind() -> None:
    from kinds import KINDS, OTHERWISE, kind_of
    from reach import places

    found = {(name, argument): kind_of(name, argument) for name, argument in places()}
    assert len(found) > 500
    assert {argument for _, argument in found} == set(KINDS)
    assert set(OTHERWISE) <= {f"{name}.{argument}" for name, argument in found}


def test_a_new_public_name_would_fail() -> None:
    from more_subjects import reason_of

    def new(argument: int) -> int:
        return argument

    assert reason_of("new", new, set()) == ""
    assert reason_of("ProbClassifier.new", new, set()) == ""
