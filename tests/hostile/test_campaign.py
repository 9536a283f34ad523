"""Nothing wrong in silence: hostile values for every argument of every public callable.

Each case gives one hostile value in an otherwise right call. Its result is right, by an oracle or
by the same call with the value's plain form, or it is a typed error; a raw error, a wrong number,
an abort and a hang are failures. The right call is made again after each case, and gives what it
gave before. `--hostile-cases N` runs about N cases.
"""

from __future__ import annotations

import folders  # noqa: F401
import pytest


@pytest.fixture(scope="module")
def count(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--hostile-cases"))


def test_hostile_values_give_right_results_or_typed_errors(
    count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from campaign import failures, run_all, table
    from cases import campaign

    cases = campaign(count)
    assert len(cases) >= min(count, 2000)
    outcomes = run_all(cases)
    with capsys.disabled():
        print(f"\n{table(outcomes)}\n")
    failed = [outcome for outcome in outcomes if outcome.failed]
    assert not failed, f"{len(failed)} of {len(outcomes)} cases failed\n{failures(outcomes)}"
