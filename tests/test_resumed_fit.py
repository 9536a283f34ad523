"""Fits that were killed at any moment go on, and come to the same bits."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.errors import DataError, InvalidArgumentError, SavedFileError
from hoarfrost.laplace import resume, resume_folder
from hoarfrost.likelihood import Gaussian

RNG = np.random.default_rng(0)
D, H, C, N = 4, 6, 3, 90
X = RNG.normal(size=(N, D)).astype(np.float32)
PARAMS = {
    "body": RNG.normal(size=(D, H)).astype(np.float32),
    "head": {
        "w": RNG.normal(size=(H, C)).astype(np.float32),
        "b": RNG.normal(size=C).astype(np.float32),
    },
}
TARGETS = {
    "categorical": RNG.integers(0, C, N),
    "bernoulli": RNG.integers(0, 2, (N, C)),
    "gaussian": RNG.normal(size=(N, C)).astype(np.float32),
    "each": RNG.normal(size=(N, C)).astype(np.float32),
}
EACH = Gaussian((0.5, 1.0, 2.0))
CASES = pytest.mark.parametrize("likelihood", TARGETS)
OF = pytest.mark.parametrize("part", ["head", "every"])
STRUCTURES = pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])


def network(params, x):
    return jnp.tanh(x @ params["body"]) @ params["head"]["w"] + params["head"]["b"]


def other_network(params, x):
    return jnp.sin(x @ params["body"]) @ params["head"]["w"] + params["head"]["b"]


def fitted(likelihood="categorical", part="head", data=None, model=network, **options):
    if data is None:
        data = DataLoader.from_array_data((X, TARGETS[likelihood]), batch_size=20)
    options = {
        "params": PARAMS,
        "likelihood": EACH if likelihood == "each" else likelihood,
        **options,
    }
    return hoarfrost.fit_laplace(
        model,
        data_loader=data,
        trainable=(lambda path, _: "head" in path) if part == "head" else None,
        progress=False,
        **options,
    )


@pytest.fixture(autouse=True)
def at_every_chance(monkeypatch):
    """Writes after every piece and every round of a factorisation."""
    monkeypatch.setattr(resume, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(resume, "FACTOR_SECONDS", 0.0)
    monkeypatch.setattr(resume, "FACTOR_FLOPS", 0.0)
    monkeypatch.setattr(resume, "_SHARE", 1e9)
    monkeypatch.setattr(resume, "_SHORT", 0.01)


class StopError(Exception):
    """The end of a run."""


def stopped(data, after):
    """The batches, until a number of them has been given."""

    def batches():
        for index, batch in enumerate(data):
            if index == after:
                raise StopError
            yield batch

    return DataLoader.from_callable_iterable(batches)


def same(one, other):
    np.testing.assert_array_equal(one.precision(), other.precision())
    np.testing.assert_array_equal(one.variance(), other.variance())
    assert one.log_marginal_likelihood() == other.log_marginal_likelihood()
    assert one.num_data == other.num_data
    np.testing.assert_array_equal(one.predict(X[:5])[0], other.predict(X[:5])[0])


@CASES
@OF
@STRUCTURES
def test_a_pass_that_was_broken_off_goes_on(tmp_path, likelihood, part, structure, monkeypatch):
    options = {"hessian_structure": structure, "resume_dir": tmp_path / "fit"}
    whole = fitted(likelihood, part, hessian_structure=structure)
    data = list(DataLoader.from_array_data((X, TARGETS[likelihood]), batch_size=20))
    for after in (2, 3, 4):
        with pytest.raises(StopError):
            fitted(likelihood, part, stopped(data, after), **options)
    assert resume_pieces(tmp_path / "fit") == 3
    added = []
    core = type(whole.curvature)
    monkeypatch.setattr(core, "add", spying(core.add, added))
    resumed = fitted(likelihood, part, stopped(data, 9), **options)
    assert len(added) == 2
    same(resumed, whole)
    assert not list((tmp_path / "fit").iterdir())


def spying(add, calls):
    def spy(self, *arguments):
        calls.append(1)
        return add(self, *arguments)

    return spy


def resume_pieces(folder):
    from hoarfrost import storage

    with storage.opened(folder / "pass.hoarfrost", resume.KIND) as stored:
        return stored.header["pieces"]


@pytest.mark.parametrize("keep", [True, False])
@OF
@pytest.mark.parametrize("moment", [2])
def test_a_factorisation_that_was_broken_off_goes_on(tmp_path, part, keep, moment, monkeypatch):
    # The core looks up every 50 ms: it must be at work for longer than that.
    width, outputs = (900, 6) if part == "head" else (450, 6)
    wide = {
        "body": RNG.normal(size=(D, width)).astype(np.float32),
        "head": {
            "w": RNG.normal(size=(width, outputs)).astype(np.float32) / width**0.5,
            "b": RNG.normal(size=outputs).astype(np.float32),
        },
    }
    options = {"params": wide, "keep_curvature": keep, "part": part}
    whole = fitted(**options)
    writes = []
    write = resume.write

    def broken(path, *arguments):
        write(path, *arguments)
        if "factor" in path.name:
            writes.append(path)
            if len(writes) == moment:
                raise StopError

    monkeypatch.setattr(resume, "write", broken)
    with pytest.raises(StopError):
        fitted(**options, resume_dir=tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"pass.hoarfrost", "factor.hoarfrost"}
    resumed = fitted(**options, resume_dir=tmp_path)
    assert resumed.log_marginal_likelihood() == whole.log_marginal_likelihood()
    for one, other in zip(*map(answers, (resumed, whole)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not list(tmp_path.iterdir())
    if keep:
        one, other = (each.with_prior_precision(2.0) for each in (resumed, whole))
        assert one.log_marginal_likelihood() == other.log_marginal_likelihood()


def answers(posterior):
    return jax.tree.leaves((posterior.sample(0, 2), posterior.functional_covariance(X[:5])))


def test_another_prior_takes_the_sums_and_not_the_factor(tmp_path, monkeypatch):
    with pytest.raises(InvalidArgumentError):
        fitted(resume_dir=tmp_path, prior_precision=-1.0)
    factor = resume.Resume.factor
    monkeypatch.setattr(
        resume.Resume, "factor", lambda *arguments: (_ for _ in ()).throw(StopError)
    )
    with pytest.raises(StopError):
        fitted(resume_dir=tmp_path)
    monkeypatch.setattr(resume.Resume, "factor", factor)
    same(fitted(resume_dir=tmp_path, prior_precision=3.0), fitted(prior_precision=3.0))


def test_the_temperature_of_an_earlier_posterior_is_told(tmp_path, monkeypatch):
    earlier = fitted()
    with monkeypatch.context() as patch:
        patch.setattr(resume.Resume, "factor", lambda *arguments: (_ for _ in ()).throw(StopError))
        with pytest.raises(StopError):
            fitted(resume_dir=tmp_path, prior=earlier, temperature=4.0)
    with pytest.raises(InvalidArgumentError, match="with another posterior as prior"):
        fitted(resume_dir=tmp_path, prior=earlier)
    same(
        fitted(resume_dir=tmp_path, prior=earlier, temperature=4.0),
        fitted(prior=earlier, temperature=4.0),
    )


@pytest.mark.parametrize("change", ["more", "fewer", "other"])
def test_all_data_of_complete_sums_are_looked_at(tmp_path, monkeypatch, change):
    data = list(DataLoader.from_array_data((X, TARGETS["categorical"]), batch_size=20))
    with monkeypatch.context() as patch:
        patch.setattr(resume.Resume, "factor", lambda *arguments: (_ for _ in ()).throw(StopError))
        with pytest.raises(StopError):
            fitted(data=data, resume_dir=tmp_path)
    changed = {
        "more": [*data, data[0]],
        "fewer": data[:-1],
        "other": [*data[:-1], (data[-1][0] + 1, data[-1][1])],
    }[change]
    with pytest.raises(DataError, match="not those of the fit that was broken off"):
        fitted(data=changed, resume_dir=tmp_path)
    same(fitted(data=data, resume_dir=tmp_path), fitted(data=data))


def test_every_channel_of_an_image_is_looked_at():
    from hoarfrost.data.checked import data_batches

    images = np.zeros((64, 32, 32, 3), np.float32)
    found = set()
    for channel in range(4):
        other = images.copy()
        other[..., channel : channel + 1] = 1
        (batch,) = data_batches([(other, np.zeros(64, int))])
        found.add(resume_folder._digest_of(batch))
    assert len(found) == 4


def test_two_fits_in_one_folder(tmp_path):
    with resume_folder.locked(tmp_path), pytest.raises(InvalidArgumentError, match="another fit"):
        fitted(resume_dir=tmp_path)
    fitted(resume_dir=tmp_path)


def test_a_folder_that_fills_up_does_not_end_the_fit(tmp_path, monkeypatch):
    def full(*arguments):
        raise SavedFileError("no space")

    monkeypatch.setattr(resume, "write", full)
    with pytest.warns(UserWarning, match="nothing more is kept in resume_dir: no space"):
        resumed = fitted(resume_dir=tmp_path)
    same(resumed, fitted())


def test_an_earlier_posterior_is_added_once(tmp_path, monkeypatch):
    earlier = fitted()
    factor = resume.Resume.factor
    monkeypatch.setattr(
        resume.Resume, "factor", lambda *arguments: (_ for _ in ()).throw(StopError)
    )
    with pytest.raises(StopError):
        fitted(resume_dir=tmp_path, prior=earlier)
    monkeypatch.setattr(resume.Resume, "factor", factor)
    same(fitted(resume_dir=tmp_path, prior=earlier), fitted(prior=earlier))


OTHERS = {
    "parameters": {"params": {**PARAMS, "head": {**PARAMS["head"], "b": np.zeros(C, np.float32)}}},
    "frozen": {"params": {**PARAMS, "body": PARAMS["body"] + np.float32(1)}},
    "selection": {"part": "every"},
    "structure": {"hessian_structure": "diag"},
    "likelihood": {"likelihood": "gaussian"},
    "noise": {"likelihood": Gaussian(2.0)},
    "data": {"data": [(X[::-1], TARGETS["categorical"])]},
    "batches": {"data": DataLoader.from_array_data((X, TARGETS["categorical"]), batch_size=30)},
    "model": {"model": other_network},
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_fit_in_the_folder_is_an_error(tmp_path, what):
    likelihood = "gaussian" if what in ("noise", "likelihood") else "categorical"
    first = {"likelihood": "bernoulli"} if what == "likelihood" else {"likelihood": likelihood}
    y = TARGETS["bernoulli" if what == "likelihood" else likelihood]
    data = list(DataLoader.from_array_data((X, y), batch_size=20))
    with pytest.raises(StopError):
        fitted(**first, data=stopped(data, 3), resume_dir=tmp_path)
    before = (tmp_path / "pass.hoarfrost").read_bytes()
    options = {"likelihood": likelihood, "data": data, **OTHERS[what]}
    with pytest.raises(InvalidArgumentError, match=r"resume_dir.* holds a "):
        fitted(**options, resume_dir=tmp_path)
    assert (tmp_path / "pass.hoarfrost").read_bytes() == before


@pytest.mark.parametrize("change", ["batch", "shorter"])
def test_later_data_that_differ_are_an_error(tmp_path, change):
    data = list(DataLoader.from_array_data((X, TARGETS["categorical"]), batch_size=20))
    with pytest.raises(StopError):
        fitted(data=stopped(data, 4), resume_dir=tmp_path)
    other = list(data)
    other[1] = (data[1][0] + 1, data[1][1])
    with pytest.raises(DataError, match="not those of the fit that was broken off"):
        fitted(data=other if change == "batch" else data[:1], resume_dir=tmp_path)


def test_damage_is_an_error(tmp_path):
    data = list(DataLoader.from_array_data((X, TARGETS["categorical"]), batch_size=20))
    with pytest.raises(StopError):
        fitted(data=stopped(data, 4), resume_dir=tmp_path)
    file = tmp_path / "pass.hoarfrost"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(SavedFileError, match="changed"):
        fitted(data=data, resume_dir=tmp_path)


def test_short_fits_write_nothing(tmp_path, monkeypatch):
    monkeypatch.undo()
    writes = []
    monkeypatch.setattr(resume, "write", lambda *arguments: writes.append(arguments))
    same(fitted(resume_dir=tmp_path), fitted())
    assert not writes and not list(tmp_path.iterdir())


def test_folders_that_cannot_be(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for folder in (3, "", file, tmp_path / "none" / "none"):
        with pytest.raises(InvalidArgumentError, match="resume_dir is"):
            fitted(resume_dir=folder)
    # What is not ours stays.
    fitted(resume_dir=tmp_path)
    assert file.read_text() == "mine" and list(tmp_path.iterdir()) == [file]


SCRIPT = """
    import sys, time
    import jax.numpy as jnp, numpy as np
    import hoarfrost
    from hoarfrost.data import DataLoader
    from hoarfrost.laplace import resume, resume_folder
    resume.LEAST_SECONDS = resume.FACTOR_SECONDS = resume.FACTOR_FLOPS = 0.0
    resume._SHARE = 1e9
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 8)).astype(np.float32)
    y = rng.integers(0, 5, 2000)
    params = {
        "a": rng.normal(size=(8, 40)).astype(np.float32),
        "b": rng.normal(size=(40, 5)).astype(np.float32),
    }
    def network(params, x):
        return jnp.tanh(x @ params["a"]) @ params["b"]
    def batches():
        for batch in DataLoader.from_array_data((x, y), batch_size=50):
            yield batch
    kind, folder, out = sys.argv[1:]
    posterior = hoarfrost.fit_laplace(
        network, params, DataLoader.from_callable_iterable(batches), progress=False,
        trainable=["b"] if kind == "head" else None,
        keep_curvature=kind != "in place",
        resume_dir=folder or None,
    )
    np.savez(out, precision=posterior.precision(), variance=posterior.variance(),
             evidence=posterior.log_marginal_likelihood())
    print("whole")
"""


@pytest.mark.parametrize("kind", ["head", "every", "in place"])
def test_killed_by_sigkill(tmp_path, kind, request):
    """A real process, killed at random moments until it comes to its end."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def run(folder, out, seconds=None):
        command = [sys.executable, str(script), kind, str(folder), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
            return b"whole" in process.stdout.read()

    began = time.monotonic()
    assert run("", tmp_path / "whole")
    total = time.monotonic() - began
    generator = np.random.default_rng(len(kind))
    kills = request.config.getoption("--kills")
    for _ in range(kills):
        # Start-up takes most of a run; what is of interest comes after it.
        run(tmp_path / "fit", tmp_path / "killed", total * generator.uniform(0.6, 1.3))
    assert run(tmp_path / "fit", tmp_path / "resumed")
    whole, resumed = (np.load(tmp_path / f"{name}.npz") for name in ("whole", "resumed"))
    for name in whole.files:
        np.testing.assert_array_equal(whole[name], resumed[name])
    assert not list((tmp_path / "fit").iterdir())
