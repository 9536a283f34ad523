"""What lies on the disk: whole, ours alone, and known again; damage is an error."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checkpoint_problems import TRAIN, config, map_model, same_tree
from versions import enable_x64

from hoarfrost.errors import CheckpointAccessError, CheckpointError, HoarfrostError
from hoarfrost.training import checkpoint, checkpoint_folder
from hoarfrost.training.stored_tree import by_names

KINDS = ("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "complex64", "bool")
KINDS += ("int8", "int32", "int64", "uint8", "uint32")


def save(folder, tree, method="map", step=3, keep=2, **facts):
    return checkpoint.save(str(folder), method, {"params": tree}, {"step": step, **facts}, keep)


def load(path, methods=("map",)):
    return checkpoint.load(str(path), methods)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*holds numbers in")
def test_every_dtype_keeps_its_bits(kind, tmp_path):
    values = np.random.default_rng(0).standard_normal((3, 4)) * 50
    array = values.astype(jnp.dtype(kind))
    swapped = array.astype(array.dtype.newbyteorder(">")) if array.dtype.kind in "fi" else array
    tree = {"plain": array, "strided": array[::2, ::-1], "swapped": swapped, "one": array[0, 0]}
    save(tmp_path, tree)
    found = load(tmp_path).trees["params"]
    for name, leaf in tree.items():
        own = np.asarray(found[name])
        assert own.dtype == jnp.dtype(kind) and own.shape == np.shape(leaf)
        np.testing.assert_array_equal(own, np.asarray(leaf))
    assert np.asarray(found["plain"]).tobytes() == array.tobytes()


def test_numbers_that_jax_would_round_are_kept_with_a_warning(tmp_path):
    wide = np.asarray([1 / 3, 2 / 3])
    save(tmp_path, {"a": wide})
    with pytest.warns(UserWarning, match=r"holds numbers in float64, .*jax_enable_x64"):
        found = load(tmp_path).trees["params"]["a"]
    assert isinstance(found, np.ndarray) and found.tobytes() == wide.tobytes()
    with enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load(tmp_path).trees["params"]["a"]
    assert isinstance(found, jax.Array) and np.asarray(found).tobytes() == wide.tobytes()


NAMES = ["a.b", "a/b", "a b", "", "%", "%2e%", "..", "é", "0", "-", "A", "a", "\n"]


def test_every_structure_and_every_name_comes_back(tmp_path):
    def leaf(number):
        return jnp.full((2,), number, jnp.float32)

    named = {name: leaf(index) for index, name in enumerate(NAMES)}
    tree = {
        "names": {**named, "a": {"b": leaf(-1), "b.c": leaf(-2), "b/c": leaf(-3)}},
        "numbers": {0: leaf(20), 10: leaf(21), 2: leaf(22)},
        "list": [leaf(30), (leaf(31), None, [])],
        "empty": {},
        "nothing": None,
        "without entries": jnp.zeros((0, 3), jnp.bfloat16),
        "keys": jax.random.key(3),
        "more keys": jax.random.split(jax.random.key(5, impl="rbg"), 2),
    }
    save(tmp_path, tree)
    found = load(tmp_path).trees["params"]
    assert same_tree(tree, found)
    assert jax.random.key_impl(found["more keys"]) == jax.random.key_impl(tree["more keys"])
    assert list(found["numbers"]) == [0, 10, 2]


def test_states_of_optimisers_are_named_by_their_fields(tmp_path):
    params = {"w": jnp.ones(3), "b": jnp.zeros(2)}
    optimizers = [
        optax.adam(1e-3),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)),
        optax.multi_transform(
            {"a": optax.sgd(0.1, 0.9), "b": optax.set_to_zero()}, {"w": "a", "b": "b"}
        ),
        optax.MultiSteps(optax.adam(1e-3), 3),
        optax.add_noise(0.1, 0.5, 3),
    ]
    for optimizer in optimizers:
        state = optimizer.init(params)
        save(tmp_path, by_names(state))
        assert len(jax.tree.leaves(load(tmp_path).trees)) == len(jax.tree.leaves(state))


class Box:
    """A container of a user's own."""

    def __init__(self, inner):
        self.inner = inner


jax.tree_util.register_pytree_node(Box, lambda box: ((box.inner,), None), lambda _, i: Box(*i))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": Box(np.ones(2))}, "params/a is a Box; a checkpoint holds arrays in dicts"),
        ({"a": "text"}, "params/a is 'text', of dtype"),
        ({"a": np.array([None])}, "of dtype object"),
        ({(1, 2): np.ones(2)}, r"has the key \(1, 2\)"),
    ],
    ids=["box", "text", "object", "tuple"],
)
def test_what_a_checkpoint_cannot_hold_is_an_error(tree, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path, tree)
    assert os.listdir(tmp_path) == []


def test_only_old_checkpoints_of_the_same_method_go(tmp_path):
    (tmp_path / "notes.txt").write_text("of the user")
    (tmp_path / "map_7_step_1").mkdir()  # not one of ours
    (tmp_path / "map_2_step_2").write_text("of the user")
    for step in range(4):
        save(tmp_path, {"a": np.ones(2)}, step=step)
        save(tmp_path, {"a": np.ones(2)}, "laplace", step=9, keep=1)
    kept = {"notes.txt", "map_7_step_1", "map_2_step_2", "laplace_8_step_9"}
    assert set(os.listdir(tmp_path)) == {*kept, "map_5_step_2", "map_7_step_3"}
    (tmp_path / "map_5_step_2" / "mine.txt").write_text("of the user")
    for step in (7, 8, 9):
        save(tmp_path, {"a": np.ones(2)}, step=step, keep=1)
    left = {"map_5_step_2", f"map_{11}_step_9"}
    assert {n for n in os.listdir(tmp_path) if n.startswith("map")} == {
        *left,
        "map_7_step_1",
        "map_2_step_2",
    }


def test_the_newest_is_the_one_that_was_written_last(tmp_path):
    for step in (90, 3):
        save(tmp_path, {"a": np.full(2, step, np.float32)}, step=step)
    assert load(tmp_path).facts["step"] == 3
    for step in range(12):
        save(tmp_path, {"a": np.full(2, step, np.float32)}, step=step, keep=20)
    assert load(tmp_path).facts["step"] == 11


def test_what_a_killed_writer_left_is_removed_and_no_other(tmp_path):
    left = tmp_path / f"{checkpoint_folder._UNFINISHED}0"
    (left / "arrays").mkdir(parents=True)
    alive = checkpoint_folder._locked(str(tmp_path))
    try:
        save(tmp_path, {"a": np.ones(2)})
        assert not left.exists() and alive[0].exists()
    finally:
        os.close(alive[1])
    save(tmp_path, {"a": np.ones(2)})
    assert not alive[0].exists()


def test_writers_beside_each_other_lose_nothing(tmp_path):
    def write(thread):
        return [save(tmp_path, {"a": np.full(3, 10 * thread + i)}, keep=100).name for i in range(6)]

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        names = [name for found in pool.map(write, range(3)) for name in found]
    assert sorted(names) == sorted(os.listdir(tmp_path)) and len(set(names)) == 18
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = {int(load(tmp_path / name).trees["params"]["a"][0]) for name in names}
    before = list(warnings.filters)
    assert values == {10 * thread + i for thread in range(3) for i in range(6)}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda i: save(tmp_path, {"a": np.ones(2, np.float32)}, keep=2), range(9)))
    assert 1 <= len(os.listdir(tmp_path)) <= 4 and before == list(warnings.filters)
    load(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    map_model().train(TRAIN, fit_config=config(1, save_checkpoint_dir=folder))
    (path,) = folder.iterdir()
    return path


def files_of(path):
    return sorted(file for file in path.rglob("*") if file.is_file())


def damaged(whole, tmp_path, change):
    place = tmp_path / "copy"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place)
    change(place)
    return place


def refused(place):
    """The error, from which the model comes out as it was."""
    model = map_model()
    model.load_params(START.params, START.mutable)
    before = model.posterior.state.get()
    with pytest.raises(CheckpointError) as caught:
        model.load_state(place)
    assert model.posterior.state.get() is before
    assert str(place) in str(caught.value) and len(str(caught.value)) < 1500
    return str(caught.value)


START = map_model().joint.init((3,))


def test_every_file_that_is_cut_altered_or_missing_is_an_error(whole, tmp_path):
    random = np.random.default_rng(1)
    for file in files_of(whole):
        name = file.relative_to(whole)
        size = file.stat().st_size

        def cut(place, name=name, size=size):
            with open(place / name, "r+b") as opened:
                opened.truncate(int(random.integers(size)))

        def flip(place, name=name, size=size):
            with open(place / name, "r+b") as opened:
                where = int(random.integers(size))
                opened.seek(where)
                byte = opened.read(1)[0]
                opened.seek(where)
                opened.write(bytes([byte ^ (1 << int(random.integers(8)))]))

        for change in (cut, flip, lambda place, name=name: (place / name).unlink()):
            message = refused(damaged(whole, tmp_path, change))
            assert "damaged" in message or "holds no checkpoint" in message or "no check" in message


def test_every_byte_of_the_header_counts(whole, tmp_path):
    text = (whole / checkpoint.HEADER).read_bytes()
    place = damaged(whole, tmp_path, lambda place: None)
    for where in range(0, len(text), 7):
        changed = bytearray(text)
        changed[where] ^= 1 << (where % 8)
        (place / checkpoint.HEADER).write_bytes(bytes(changed))
        with pytest.raises(CheckpointError):
            load(place)


def test_more_files_than_were_written_are_an_error(whole, tmp_path):
    place = damaged(whole, tmp_path, lambda p: (p / "arrays" / "more").write_text("x"))
    assert "its arrays are not those that were written" in refused(place)


def test_a_newer_version_and_another_method_say_so(whole, tmp_path):
    def newer(place):
        header = json.loads((place / checkpoint.HEADER).read_text())
        header["version"] = checkpoint.VERSION + 1
        (place / checkpoint.HEADER).write_text(json.dumps(header))

    assert "written by a newer Hoarfrost" in refused(damaged(whole, tmp_path, newer))
    save(tmp_path / "other", {"a": np.ones(2)}, "laplace")
    assert "holds no checkpoint of 'map', but laplace_1" in refused(tmp_path / "other")
    direct = tmp_path / "other" / "laplace_1_step_3"
    assert "is a checkpoint of the method 'laplace'" in refused(direct)


def test_what_is_no_checkpoint_says_so(tmp_path):
    import orbax.checkpoint as ocp

    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with ocp.StandardCheckpointer() as writer:
        writer.save(tmp_path / "orbax", {"a": np.ones(2)})
    assert "there is nothing at" in refused(tmp_path / "none")
    assert "holds no checkpoint" in refused(tmp_path / "empty")
    assert "is no checkpoint of Hoarfrost" in refused(tmp_path / "file")
    assert "load_params" in refused(tmp_path / "orbax")
    for error in (ValueError, OSError, HoarfrostError, CheckpointAccessError):
        with pytest.raises(error):
            map_model().load_state(tmp_path / "none")


def test_its_arrays_are_a_checkpoint_of_orbax(whole):
    import orbax.checkpoint as ocp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ocp.PyTreeCheckpointer() as reader:
            tree = reader.restore(whole / "arrays")
    model = map_model()
    model.load_state(whole)
    own = model.posterior.state.get().params["model"]["params"]["body"]["kernel"]
    np.testing.assert_array_equal(tree["params"]["model"]["params"]["body"]["kernel"], own)


def test_modes_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        place = save(tmp_path, {"a": np.ones(2)})
    finally:
        os.umask(before)
    assert place.stat().st_mode & 0o777 == 0o750
    assert (place / checkpoint.HEADER).stat().st_mode & 0o777 == 0o640


QUIET = """
import sys
import hoarfrost.prob_model
assert "orbax" not in "".join(sys.modules), "orbax is imported before it is needed"
import asyncio, numpy as np
from hoarfrost.training import checkpoint

async def notebook():
    checkpoint.save(sys.argv[1], "map", {"params": {"a": np.ones(2, np.float32)}}, {"step": 1}, 1)
    return checkpoint.load(sys.argv[1], ("map",))

print(asyncio.run(notebook()).trees["params"]["a"])
"""


def test_orbax_is_imported_late_and_says_nothing_also_in_a_notebook(tmp_path):
    # Orbax 0.11 leaves its event loop to the end of the process.
    options = ["-W", "error", "-W", "ignore::ResourceWarning"]
    command = [sys.executable, *options, "-c", QUIET, str(tmp_path / "a")]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1. 1.]\n", "")
