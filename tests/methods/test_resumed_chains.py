"""Chains that were broken off go on from their folder, and come to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from linear_gaussian import apply, problem

import hoarfrost
from hoarfrost import methods
from hoarfrost.errors import InvalidArgumentError, SavedFileError
from hoarfrost.methods import chain_folder
from hoarfrost.methods.chain_folder import ChainFolder

EXACT = problem(3, at_mean=False)
SETTINGS: dict[str, Any] = {
    "burnin_length": 20,
    "n_samples": 7,
    "n_thinning": 9,
    "num_chains": 3,
    "step_schedule": 1e-3,
    "seed": 5,
}


def sampled(resume_dir: Path | None = None, **changes: Any) -> methods.WeightPosterior:
    options = {**EXACT.options, **SETTINGS, **changes}
    loader = options.pop("loader", EXACT.loader(16))
    params = options.pop("params", EXACT.params)
    return methods.sample_sghmc(apply, params, loader, resume_dir=resume_dir, **options)


def bits(posterior: methods.WeightPosterior) -> list[bytes]:
    draws = posterior.weight_samples().trainable
    losses = posterior.status["loss"]
    return [*(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(draws)), losses.tobytes()]


@pytest.fixture(scope="module")
def uninterrupted() -> list[bytes]:
    return bits(sampled())


@pytest.fixture
def written_at_every_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_folder, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(chain_folder, "SHARE", float("inf"))
    monkeypatch.setattr(chain_folder, "_STEPS", 6)


class Stopped(Exception):
    """The moment at which a test breaks off."""


def breaking_off(monkeypatch: pytest.MonkeyPatch, write: int, after: bool) -> Callable[[], int]:
    """Stop before or after so many files have been written; how many were, comes back."""
    real, count = chain_folder.write, 0

    def counted(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == write and not after:
            raise Stopped
        real(*arguments)
        if count == write:
            raise Stopped

    monkeypatch.setattr(chain_folder, "write", counted)
    return lambda: count


@pytest.mark.usefixtures("written_at_every_stop")
@pytest.mark.parametrize("after", [False, True])
def test_wherever_they_are_broken_off(
    tmp_path: Path, uninterrupted: list[bytes], monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setattr(chain_folder, "PART_BYTES", 3 * 3 * 3 * 4)  # three samples to a file
    with pytest.MonkeyPatch.context() as patch:
        written = breaking_off(patch, 0, after)
        sampled(tmp_path / "whole")
        total = written()
    assert total >= 8
    for write in (1, 2, 5, total - 3, total - 1, total):
        folder = tmp_path / str(write)
        with pytest.MonkeyPatch.context() as patch:
            breaking_off(patch, write, after)
            with pytest.raises(Stopped):
                sampled(folder)
        assert bits(sampled(folder)) == uninterrupted, write
        assert {path.suffix for path in folder.iterdir() if path.name[0] != "."} == {".hoarfrost"}
        assert [path.name for path in folder.glob("*.hoarfrost")] == ["samples.hoarfrost"]


@pytest.mark.usefixtures("written_at_every_stop")
def test_broken_off_more_than_once(
    tmp_path: Path, uninterrupted: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        with pytest.MonkeyPatch.context() as patch:
            breaking_off(patch, 4, True)
            with pytest.raises(Stopped):
                sampled(tmp_path)
    assert bits(sampled(tmp_path)) == uninterrupted


@pytest.mark.usefixtures("written_at_every_stop")
@pytest.mark.parametrize("name", ["cyclical", "rmsprop", "stream"])
def test_other_chains(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def once(folder: Path | None) -> methods.WeightPosterior:
        if name == "cyclical":
            return methods.sample_cyclical_sgld(
                apply,
                EXACT.params,
                EXACT.loader(16),
                n_samples=4,
                n_thinning=3,
                cycle_length=20,
                num_cycles=2,
                init_step_size=1e-3,
                num_chains=2,
                resume_dir=folder,
                **EXACT.options,
            )
        if name == "rmsprop":
            return sampled(folder, preconditioner=methods.rmsprop_preconditioner())
        batches = [(EXACT.x[k : k + 16], EXACT.y[k : k + 16]) for k in range(0, 60, 16)]
        return sampled(folder, loader=batches, num_chains=1)

    def drawn(posterior: methods.WeightPosterior) -> bytes:
        trees = posterior.weight_samples().trainable
        return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(trees))

    with pytest.MonkeyPatch.context() as patch:
        breaking_off(patch, 4, True)
        with pytest.raises(Stopped):
            once(tmp_path)
    assert drawn(once(tmp_path)) == drawn(once(None))


def test_finished_samples_are_read_and_not_sampled_again(
    tmp_path: Path, uninterrupted: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled(tmp_path)
    monkeypatch.setattr(ChainFolder, "go_on", None)
    again = sampled(tmp_path)
    assert bits(again) == uninterrupted
    # Only part of the memory: the leaves are mapped from the file.
    leaf = jax.tree.leaves(again.distribution.listed.trainable)[0]
    assert not leaf.flags.writeable and not leaf.flags.owndata


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 6}, "another seed"),
        ({"num_chains": 2}, "another number of chains"),
        ({"n_samples": 8}, "other numbers of samples or steps"),
        ({"step_schedule": 2e-3}, "other numbers of samples or steps"),
        ({"momentum_decay": 0.2}, "step sizes or momenta"),
        ({"preconditioner": methods.rmsprop_preconditioner()}, "another preconditioner"),
        ({"prior_precision": 3.0}, "another prior"),
        ({"loader": EXACT.loader(20)}, "other batches"),
        ({"params": {**EXACT.params, "body": EXACT.params["body"] * 2}}, "other frozen parameters"),
        ({"params": {**EXACT.params, "head": EXACT.params["head"] + 1}}, "other parameters"),
        ({"trainable": lambda path, value: True}, "another selection"),
        ({"likelihood": hoarfrost.likelihood.Gaussian(noise_std=1.0)}, "another likelihood"),
    ],
)
def test_a_folder_of_other_chains(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], said: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "of_others"
    if not folder.exists():
        sampled(folder)
    before = (folder / "samples.hoarfrost").read_bytes()
    with pytest.raises(InvalidArgumentError, match=f"(?s)resume_dir .*{said}.*give another folder"):
        sampled(folder, **changes)
    assert (folder / "samples.hoarfrost").read_bytes() == before


def test_data_that_changed(tmp_path: Path) -> None:
    sampled(tmp_path)
    other = hoarfrost.data.DataLoader.from_array_data((EXACT.x, EXACT.y + 1), batch_size=16)
    with pytest.raises(InvalidArgumentError, match="of other data"):
        sampled(tmp_path, loader=other)


def test_a_damaged_file(tmp_path: Path) -> None:
    sampled(tmp_path)
    file = tmp_path / "samples.hoarfrost"
    held = bytearray(file.read_bytes())
    held[-3] ^= 1
    file.write_bytes(held)
    with pytest.raises(SavedFileError, match="samples"):
        sampled(tmp_path)


@pytest.mark.parametrize("folder", [3, b"x", ""])
def test_no_folder(folder: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="resume_dir"):
        sampled(folder)
