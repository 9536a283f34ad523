"""Posteriors through a file: the same bits in every answer, and nothing of another model."""

import copy
import dataclasses
import json
import pathlib
import re
import subprocess
import sys
import textwrap
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hoarfrost
from hoarfrost import laplace, storage
from hoarfrost.dtypes import in_float64
from hoarfrost.errors import InvalidArgumentError, SavedFileError
from hoarfrost.likelihood import CustomLikelihood, Gaussian

RNG = np.random.default_rng(0)
D, H, C, N = 4, 6, 3, 40
X = RNG.normal(size=(N, D)).astype(np.float32)
PARAMS = {
    "body": [RNG.normal(size=(D, H)).astype(np.float32), None],
    "head": {
        "w": RNG.normal(size=(H, C)).astype(np.float32),
        "b": RNG.normal(size=C).astype(np.float32),
    },
}
LABELS = RNG.integers(0, C, N)
TARGETS = {
    "categorical": LABELS,
    "bernoulli": RNG.integers(0, 2, (N, C)),
    "poisson": RNG.poisson(2.0, (N, C)),
    "gaussian": RNG.normal(size=(N, C)).astype(np.float32),
    "each": RNG.normal(size=(N, C)).astype(np.float32),
}
EACH = Gaussian((0.5, 1.0, 2.0))


def network(params, x):
    hidden = jnp.tanh(x @ params["body"][0])
    return hidden @ params["head"]["w"] + params["head"]["b"]


def other_network(params, x):
    hidden = jnp.sin(x @ params["body"][0])
    return hidden @ params["head"]["w"] + params["head"]["b"]


def head_only(path, value):
    return "head" in path


def fitted(likelihood="categorical", trainable=head_only, params=PARAMS, **options):
    y = TARGETS[likelihood]
    loader = [(X[:25], y[:25]), (X[25:], y[25:])]
    return hoarfrost.fit_laplace(
        network,
        params,
        loader,
        likelihood=EACH if likelihood == "each" else likelihood,
        trainable=trainable,
        progress=False,
        **options,
    )


def answers(posterior, x=X[:7]):
    """Everything that a user can ask, in bits."""
    found = {
        "evidence": posterior.log_marginal_likelihood(),
        "mean": posterior.mean,
        "prior_mean": posterior.prior_mean,
        "prior": posterior.prior_precision,
        "noise": posterior.noise_std,
        "num_data": posterior.num_data,
        "log_likelihood": posterior.log_likelihood,
        "precision": posterior.precision(),
        "covariance": posterior.covariance(),
        "variance": posterior.variance(),
        "sample": posterior.sample(3, 5),
        "merged": posterior.merge(),
        "functional": posterior.functional_covariance(x),
        "predict": posterior.predict(x),
        "tuning": dataclasses.astuple(posterior.tuning) if posterior.tuning else None,
    }
    return jax.tree.map(lambda leaf: np.asarray(leaf).tobytes(), found)


def through(posterior, tmp_path, model=network, **options):
    path = tmp_path / "posterior.safetensors"
    posterior.save(path)
    return hoarfrost.load_laplace(path, model=model, **options)


@pytest.mark.parametrize("likelihood", TARGETS)
@pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
@pytest.mark.parametrize("trainable", [head_only, None], ids=["head", "every"])
def test_every_structure_and_likelihood_comes_back(tmp_path, likelihood, structure, trainable):
    posterior = fitted(likelihood, trainable, hessian_structure=structure)
    again = through(posterior, tmp_path)
    assert answers(again) == answers(posterior)
    assert again.hessian_structure == structure
    # And goes on as the first would: another prior, tuned, from the curvature in the file.
    assert again.log_marginal_likelihood(2.5) == posterior.log_marginal_likelihood(2.5)
    for one in (posterior, again):
        one.optimize_prior_precision("layerwise")
    assert answers(again) == answers(posterior)
    # The certificate and the new prior come back, too.
    assert answers(through(again, tmp_path)) == answers(posterior)


PRIORS = {
    "scalar": 2.0,
    "leaves": {"head": {"w": 2.0, "b": 0.5}},
    "arrays": {
        "head": {"w": RNG.uniform(1, 2, (H, C)), "b": 0.5},
    },
}


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "gaussian", "each"])
def test_every_prior_comes_back(tmp_path, prior, likelihood):
    posterior = fitted(likelihood, prior_precision=PRIORS[prior], prior_mean=0.25)
    again = through(posterior, tmp_path)
    assert answers(again) == answers(posterior)
    assert jax.tree.structure(again.prior_precision) == jax.tree.structure(
        posterior.prior_precision
    )


@pytest.mark.parametrize("likelihood", ["gaussian", "each"])
def test_tuned_noise_comes_back(tmp_path, likelihood):
    posterior = fitted(likelihood)
    posterior.optimize_hyperparameters()
    again = through(posterior, tmp_path)
    assert answers(again) == answers(posterior)
    assert again.noise_std == posterior.noise_std


@pytest.mark.parametrize("likelihood", ["gaussian", "each"])
@pytest.mark.parametrize("trainable", [head_only, None], ids=["head", "every"])
@pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
def test_what_is_asked_after_the_noise_was_tuned(tmp_path, likelihood, trainable, structure):
    """The curvature keeps the noise that its points were added with."""
    posterior = fitted(likelihood, trainable, hessian_structure=structure)
    posterior.optimize_hyperparameters()
    again = through(posterior, tmp_path)
    noise = posterior.noise_std
    more = 2 * noise if isinstance(noise, float) else tuple(2 * std for std in noise)
    for one, other in (
        (posterior.with_prior_precision(3.0), again.with_prior_precision(3.0)),
        (posterior.with_temperature(2.0), again.with_temperature(2.0)),
    ):
        assert answers(one) == answers(other)
    assert again.log_marginal_likelihood(noise_std=more) == posterior.log_marginal_likelihood(
        noise_std=more
    )
    extra = [(X[:5], TARGETS[likelihood][:5])]
    for one in (posterior, again):
        one.update(extra, progress=False)
    assert answers(again) == answers(posterior)


@dataclasses.dataclass(frozen=True)
class Opaque:
    """A likelihood by the protocol alone, which JAX does not know."""

    scale: float = 1.0
    name = "opaque"
    head = "general"
    gaussian_targets = True

    def __getattr__(self, name):
        return getattr(Gaussian(self.scale), name)


def test_settings_of_a_likelihood_that_jax_does_not_know():
    from hoarfrost.laplace.saved_parts import likelihood_header

    assert likelihood_header(Opaque(1.0)) != likelihood_header(Opaque(2.0))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_another_model_is_told_at_any_scale(tmp_path, scale):
    def apply(params, x):
        return jax.nn.relu(x @ params["a"]) @ params["w"]

    def other(params, x):
        return jax.nn.leaky_relu(x @ params["a"], 0.05) @ params["w"]

    params = {"a": PARAMS["body"][0], "w": np.float32(scale) * PARAMS["head"]["w"]}
    posterior = hoarfrost.fit_laplace(apply, params, [(X, LABELS)], progress=False)
    posterior.save(tmp_path / "file")
    hoarfrost.load_laplace(tmp_path / "file", model=apply)
    with pytest.raises(SavedFileError, match="another model"):
        hoarfrost.load_laplace(tmp_path / "file", model=other)


def test_a_model_that_is_nearly_the_same_is_said(tmp_path):
    def apply(params, x):
        return jax.nn.relu(x @ params["w"])

    def other(params, x):
        return jax.nn.leaky_relu(x @ params["w"], 1e-4)

    params = {"w": RNG.normal(size=(D, C)).astype(np.float32)}
    posterior = hoarfrost.fit_laplace(apply, params, [(X, LABELS)], progress=False)
    posterior.save(tmp_path / "file")
    with pytest.warns(UserWarning, match="not written as the one"):
        hoarfrost.load_laplace(tmp_path / "file", model=other)

    # The same program under another name, and in another place, is the same model.
    def renamed(weights, inputs):
        return jax.nn.relu(inputs @ weights["w"])

    hoarfrost.load_laplace(tmp_path / "file", model=renamed)


def test_frozen_whole_numbers_are_compared_too(tmp_path):
    def apply(params, x):
        return (x * params["q"]) @ params["w"]

    params = {"q": np.arange(1, D + 1, dtype=np.int8), "w": np.ones((D, C), np.float32)}
    posterior = hoarfrost.fit_laplace(apply, params, [(X, LABELS)], trainable=["w"], progress=False)
    posterior.save(tmp_path / "file", frozen=False)
    hoarfrost.load_laplace(tmp_path / "file", model=apply, params=params)
    with pytest.raises(SavedFileError, match="other frozen"):
        hoarfrost.load_laplace(
            tmp_path / "file", model=apply, params={**params, "q": params["q"][::-1].copy()}
        )


@pytest.mark.parametrize("trainable", [head_only, None], ids=["head", "every"])
@pytest.mark.parametrize("keep", [True, False])
def test_with_and_without_its_curvature(tmp_path, trainable, keep):
    posterior = fitted(trainable=trainable, keep_curvature=keep)
    path = tmp_path / "posterior"
    sizes = []
    for curvature in (True, False):
        posterior.save(path, curvature=curvature)
        sizes.append(path.stat().st_size)
        again = hoarfrost.load_laplace(path, model=network)
        assert answers(again) == answers(posterior)
        if trainable is None or (keep and curvature):
            # Of any parameters the curvature comes back from the factor.
            assert again.log_marginal_likelihood(3.0) == pytest.approx(
                fitted(trainable=trainable, prior_precision=3.0).log_marginal_likelihood()
            )
        else:
            with pytest.raises(InvalidArgumentError, match="was not kept"):
                again.log_marginal_likelihood(3.0)
    assert (sizes[0] > sizes[1]) == keep


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(5)(x))
        return nn.Dense(C, name="last")(nn.relu(x))


def linen_problem():
    module = Net()
    variables = module.init(jax.random.key(0), X)
    variables = {
        "params": variables["params"],
        "batch_stats": jax.tree.map(lambda x: x + 0.5, variables["batch_stats"]),
    }
    posterior = hoarfrost.fit_laplace(
        module, variables, [(X, LABELS)], trainable=re.compile("last"), progress=False
    )
    return module, variables, posterior


def test_linen_variables_come_back_with_their_statistics(tmp_path):
    module, variables, posterior = linen_problem()
    again = through(posterior, tmp_path, model=Net())
    assert answers(again) == answers(posterior)
    assert jax.tree.structure(again.merge()) == jax.tree.structure(variables)
    changed = {**variables, "batch_stats": jax.tree.map(lambda x: x + 1, variables["batch_stats"])}
    with pytest.raises(SavedFileError, match="frozen parameters or statistics"):
        through(posterior, tmp_path, model=module, params=changed)


def test_parameters_alone_come_back_as_they_were_given(tmp_path):
    module = nn.Dense(C)
    params = module.init(jax.random.key(0), X)["params"]
    posterior = hoarfrost.fit_laplace(module, params, [(X, LABELS)], progress=False)
    again = through(posterior, tmp_path, model=module)
    assert answers(again) == answers(posterior)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtypes_of_parameters_come_back(tmp_path, dtype):
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), PARAMS)
    posterior = fitted(params=params)
    assert answers(through(posterior, tmp_path)) == answers(posterior)


def test_parameters_in_float64_are_not_narrowed_in_silence(tmp_path):
    with in_float64():
        params = jax.tree.map(lambda x: jnp.asarray(x, np.float64), PARAMS)
        posterior = fitted(params=params)
        assert answers(through(posterior, tmp_path)) == answers(posterior)
    with pytest.raises(SavedFileError, match="jax_enable_x64"):
        hoarfrost.load_laplace(tmp_path / "posterior.safetensors", model=network)


def test_without_the_frozen_parameters(tmp_path):
    posterior, path = fitted(), tmp_path / "posterior"
    posterior.save(path, frozen=False)
    with storage.opened(path, "laplace") as stored:
        assert not any(name.startswith("frozen") for name in stored.entries)
    with pytest.raises(InvalidArgumentError, match=r"params is needed .*frozen=False"):
        hoarfrost.load_laplace(path, model=network)
    # What the trainable leaves hold does not matter: the file has them.
    given = {**PARAMS, "head": jax.tree.map(np.zeros_like, PARAMS["head"])}
    assert answers(hoarfrost.load_laplace(path, model=network, params=given)) == answers(posterior)
    other = {**PARAMS, "body": [PARAMS["body"][0] + 1e-6, None]}
    with pytest.raises(SavedFileError, match="other frozen parameters"):
        hoarfrost.load_laplace(path, model=network, params=other)
    narrow = {**PARAMS, "head": {"w": PARAMS["head"]["w"][:, :2], "b": PARAMS["head"]["b"][:2]}}
    with pytest.raises(SavedFileError, match=r"another model.*head/"):
        hoarfrost.load_laplace(path, model=network, params=narrow)


def test_containers_of_a_users_own_are_asked_for(tmp_path):
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Own:
        w: jax.Array

    def apply(params, x):
        return x @ params.w

    params = Own(jnp.ones((D, C)))
    posterior = hoarfrost.fit_laplace(apply, params, [(X, LABELS)], progress=False)
    path = tmp_path / "posterior"
    posterior.save(path)
    with pytest.raises(InvalidArgumentError, match="params is needed"):
        hoarfrost.load_laplace(path, model=apply)
    again = hoarfrost.load_laplace(path, model=apply, params=params)
    assert np.array_equal(again.precision(), posterior.precision())


def test_another_model_is_told(tmp_path):
    path = tmp_path / "posterior"
    fitted().save(path)
    with pytest.raises(SavedFileError, match="another model"):
        hoarfrost.load_laplace(path, model=other_network)
    with pytest.raises((SavedFileError, InvalidArgumentError)):
        hoarfrost.load_laplace(path, model=Net())
    with pytest.raises(InvalidArgumentError, match="model"):
        hoarfrost.load_laplace(path, model=3)


@dataclasses.dataclass(frozen=True)
class Scaled(CustomLikelihood):
    scale: float = 1.0
    data_fields = ("scale",)

    def log_prob(self, outputs, targets):
        return jax.scipy.stats.norm.logpdf(targets, outputs, self.scale).sum(axis=1)


def test_a_likelihood_of_a_users_own_is_asked_for(tmp_path):
    loader = [(X, TARGETS["gaussian"])]
    posterior = hoarfrost.fit_laplace(
        network, PARAMS, loader, likelihood=Scaled(0.5), trainable=head_only, progress=False
    )
    path = tmp_path / "posterior"
    posterior.save(path)
    with pytest.raises(InvalidArgumentError, match=r"likelihood is needed.*Scaled"):
        hoarfrost.load_laplace(path, model=network)
    with pytest.raises(InvalidArgumentError, match="another one"):
        hoarfrost.load_laplace(path, model=network, likelihood=Scaled(0.7))
    with pytest.raises(InvalidArgumentError, match="another one"):
        hoarfrost.load_laplace(path, model=network, likelihood="categorical")
    again = hoarfrost.load_laplace(path, model=network, likelihood=Scaled(0.5))
    assert np.array_equal(again.precision(), posterior.precision())
    assert again.log_marginal_likelihood() == posterior.log_marginal_likelihood()


def test_a_likelihood_that_the_file_has_need_not_be_given(tmp_path):
    path = tmp_path / "posterior"
    fitted().save(path)
    hoarfrost.load_laplace(path, model=network, likelihood="categorical")
    with pytest.raises(InvalidArgumentError, match="leave it out"):
        hoarfrost.load_laplace(path, model=network, likelihood="poisson")


def test_positions_masks_and_dict_inputs_come_back(tmp_path):
    def tokens(params, inputs):
        return jnp.tanh(inputs["x"]) @ params["w"] + inputs["shift"][..., None]

    x = RNG.normal(size=(6, 5, D)).astype(np.float32)
    inputs = {"x": x, "shift": RNG.integers(0, 2, (6, 5))}
    labels = RNG.integers(0, C, (6, 5))
    labels[0, 2] = -100
    posterior = hoarfrost.fit_laplace(
        tokens,
        {"w": jnp.asarray(RNG.normal(size=(D, C)), jnp.float32)},
        [(inputs, labels)],
        ignored_label=-100,
        progress=False,
    )
    again = through(posterior, tmp_path, model=tokens)
    assert answers(again, inputs) == answers(posterior, inputs)
    assert again.num_data == 29
    np.testing.assert_array_equal(
        again.log_prob([(inputs, labels)]), posterior.log_prob([(inputs, labels)])
    )


def test_what_no_safe_file_may_hold(tmp_path):
    path = tmp_path / "posterior"
    fitted().save(path)
    raw = path.read_bytes()
    assert X[:1].tobytes() not in raw and b"pickle" not in raw
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    own = json.loads(header["__metadata__"]["hoarfrost"])
    assert (own["kind"], own["version"]) == ("laplace", storage.VERSION)


def _keys(value, path=""):
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _keys(item)
    if isinstance(value, list):
        for item in value:
            yield from _keys(item)


def test_the_page_on_the_format_names_every_key(tmp_path):
    page = pathlib.Path(laplace.__file__).with_name("posterior_file.md").read_text()
    seen = set()
    for likelihood in TARGETS:
        for structure in ("full", "dual", "kron", "diag"):
            for trainable in (head_only, None):
                posterior = fitted(likelihood, trainable, hessian_structure=structure)
                posterior.optimize_prior_precision()
                posterior.save(tmp_path / "posterior")
                with storage.opened(tmp_path / "posterior", "laplace") as stored:
                    parts = {part for key in _keys(stored.header) for part in key.split(".")}
                    seen |= {part for part in parts if not part.isdecimal()}
                    names = {re.sub(r"\d+", "<i>", name) for name in stored.entries}
                    seen |= {name.split(".")[-1] for name in names} - {"<i>"}
                    seen |= {name.split(".")[0] for name in names}
    words = set(re.findall(r"[\w<>]+", " ".join(re.findall(r"`([^`]*)`", page))))
    missing = sorted(seen - words)
    assert not missing


def test_damage_is_always_an_error(tmp_path):
    path = tmp_path / "posterior"
    fitted().save(path)
    raw = path.read_bytes()
    for place in RNG.integers(0, len(raw), 150):
        changed = bytearray(raw)
        changed[place] ^= 1 << int(RNG.integers(8))
        path.write_bytes(changed)
        with pytest.raises(SavedFileError):
            hoarfrost.load_laplace(path, model=network)
    for length in RNG.integers(0, len(raw), 100):
        path.write_bytes(raw[:length])
        with pytest.raises(SavedFileError):
            hoarfrost.load_laplace(path, model=network)


def test_headers_that_say_something_else_are_errors(tmp_path):
    """Files with good checksums whose header is not what a posterior's is."""
    path = tmp_path / "posterior"
    fitted().save(path)
    with storage.opened(path, "laplace") as stored:
        header = copy.deepcopy(stored.header)
        arrays = {name: stored.array(name).copy() for name in stored.entries}
    for key in header:
        less = {name: value for name, value in header.items() if name != key}
        storage.write(path, "laplace", less, arrays)
        with pytest.raises((SavedFileError, InvalidArgumentError)):
            hoarfrost.load_laplace(path, model=network)
    for key, number in header["factor"]["cores"][0]["numbers"].items():
        if key in ("eigenvalue", "rounding"):
            continue
        wrong = copy.deepcopy(header)
        wrong["factor"]["cores"][0]["numbers"][key] = number + 1
        storage.write(path, "laplace", wrong, arrays)
        with pytest.raises(SavedFileError):
            hoarfrost.load_laplace(path, model=network)
    for name in arrays:
        less = {key: array for key, array in arrays.items() if key != name}
        if name == "probe":
            continue
        storage.write(path, "laplace", header, less)
        with pytest.raises(SavedFileError):
            hoarfrost.load_laplace(path, model=network)


SAVER = """
    import sys
    import jax.numpy as jnp, numpy as np
    import hoarfrost
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 400)).astype(np.float32), rng.integers(0, 4, 50)
    def network(params, x):
        return x @ params["w"]
    posterior = hoarfrost.fit_laplace(
        network, {"w": jnp.zeros((400, 4))}, [(x, y)], progress=False
    )
    others = [posterior, posterior.with_prior_precision(2.0)]
    others[0].save(sys.argv[1])
    print("ready", flush=True)
    while True:
        for one in others:
            one.save(sys.argv[1])
"""


def test_killed_while_it_saves(tmp_path, request):
    """A file is always one of those that were written whole."""
    script, path = tmp_path / "script.py", tmp_path / "posterior"
    script.write_text(textwrap.dedent(SAVER))
    generator = np.random.default_rng(0)
    for _ in range(request.config.getoption("--kills")):
        command = [sys.executable, str(script), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(generator.uniform(0, 0.5))
            process.kill()
        again = hoarfrost.load_laplace(path, model=lambda params, x: x @ params["w"], verify=True)
        assert again.prior_precision in (1.0, 2.0)


@pytest.mark.parametrize(
    "options",
    [{"frozen": 1}, {"curvature": "no"}],
    ids=["frozen", "curvature"],
)
def test_save_checks_its_arguments(tmp_path, options):
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        fitted().save(tmp_path / "posterior", **options)
    assert not list(tmp_path.iterdir())
