"""What `opgrad.save` writes, `opgrad.load` reads; other files, whole or damaged; failures."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import opgrad
from opgrad import GraphError
from opgrad.serialization import FormatError

safetensors = pytest.importorskip("safetensors", reason="save and load need the extra `io`")
save_file = pytest.importorskip("safetensors.numpy").save_file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def leaf(values, dtype=None):
    return opgrad.tensor(values, dtype=dtype, requires_grad=True)


def round_trip(obj, path):
    opgrad.save(obj, path)
    return opgrad.load(path)


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, opgrad.Tensor):
        assert (found.requires_grad, found.is_leaf) == (expected.requires_grad, True)
        np.testing.assert_array_equal(found.data, expected.data, strict=True)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        for each, other in zip(found, expected, strict=True):
            assert_same(each, other)
    else:
        np.testing.assert_equal(found, expected)


def write(path, header, data=b""):
    """Write a file in the format by hand."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
]


# --------------------------------------------------------------------------- what is kept


class TestTensors:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (2, 0, 3)], ids=str)
    def test_keep_values_shape_and_dtype(self, path, dtype, shape):
        values = np.random.default_rng(0).normal(size=shape) * 3
        if np.dtype(dtype).kind == "c":
            values = values + 1j * values[..., ::-1] if shape else values * 1j
        tensor = opgrad.asarray(
            np.abs(values).astype(dtype) if dtype[0] in "ui" else values
        ).astype(dtype)
        assert_same(round_trip(tensor, path), tensor)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -0.0, 5e-324])
    def test_keep_every_bit(self, path, value):
        made = round_trip(opgrad.tensor([value]), path)
        assert made.data.tobytes() == np.array([value]).tobytes()

    @pytest.mark.parametrize("requires_grad", [False, True])
    def test_keep_whether_they_require_grad_and_not_their_gradient(self, path, requires_grad):
        a = opgrad.tensor([1.0, 2.0]).requires_grad_(requires_grad)
        a.grad = opgrad.ones(2)
        made = round_trip(a, path)
        assert made.requires_grad is requires_grad
        assert made.grad is None
        if requires_grad:
            (made * 3).sum().backward()
            assert made.grad.tolist() == [3, 3]

    @pytest.mark.parametrize("look", [lambda x: x.T, lambda x: x[::-2], lambda x: x[:, 1]])
    @pytest.mark.parametrize("dtype", ["float64", "complex128"])
    def test_may_be_views_in_any_layout(self, path, look, dtype):
        view = look(opgrad.asarray(np.arange(12).reshape(3, 4).astype(dtype)))
        assert_same(round_trip(view, path), view.clone())

    def test_may_be_in_the_other_byte_order(self, path):
        for dtype in (">f8", ">i2", ">c16"):
            tensor = opgrad.asarray(np.arange(3).astype(dtype))
            assert round_trip(tensor, path).tolist() == tensor.tolist()

    def test_may_be_written_to_afterwards(self, path):
        made = round_trip({"a": opgrad.zeros(3), "b": opgrad.tensor(1.0)}, path)
        made["a"].fill_(2.0)
        made["b"].fill_(3.0)
        assert (made["a"].tolist(), made["b"].item()) == ([2, 2, 2], 3)

    def test_that_are_one_in_two_places_are_one_again(self, path):
        a = leaf([1.0])
        made = round_trip({"encoder": {"w": a}, "decoder": [a, opgrad.ones(1)]}, path)
        assert made["encoder"]["w"] is made["decoder"][0] is not made["decoder"][1]

    def test_of_a_dtype_that_the_format_lacks_are_refused(self, path):
        if np.dtype("longdouble") == np.dtype("float64"):
            pytest.skip("on this platform longdouble is float64")
        odd = opgrad.asarray(np.ones(2, "longdouble"))
        with pytest.raises(TypeError, match=r"save: obj\['a'\]\[1\] is \w+128 \(2,\), .*astype"):
            opgrad.save({"a": [1, odd]}, path)

    def test_with_a_history_are_refused(self, path):
        with pytest.raises(
            GraphError, match=r"obj\['loss'\] was made by <Mul.*only leaves.*detach"
        ):
            opgrad.save({"loss": leaf(2.0) * 2}, path)
        assert not path.exists()


class Pair(NamedTuple):
    a: int
    b: int


class TestContainers:
    @pytest.mark.parametrize(
        "obj",
        [
            {},
            [],
            (),
            None,
            "text",
            {"": [opgrad.ones(1)]},
            {"epoch": 3, "lr": 0.1, "name": "ü", "done": True, "best": None, "inf": -np.inf},
            {"nan": float("nan"), "large": 2**80},
            {"state": {0: {"step": 1}, 1: (opgrad.ones(2), [leaf(1.0), "x"])}, "groups": [{}]},
            {"a.b": opgrad.ones(1), "a": {"b": opgrad.zeros(1)}, "__metadata__": opgrad.ones(2)},
            {1: opgrad.ones(1), "1": opgrad.zeros(1)},
            [[[[(((), [()]),)]]]],
        ],
        ids=str,
    )
    def test_come_back_as_they_were(self, path, obj):
        assert_same(round_trip(obj, path), obj)

    trees = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.builds(opgrad.ones),
        lambda inner: (
            st.lists(inner)
            | st.lists(inner).map(tuple)
            | st.dictionaries(st.text() | st.integers(), inner)
        ),
        max_leaves=10,
    )

    @settings(deadline=None, max_examples=100)
    @given(tree=trees)
    def test_of_any_nesting_come_back(self, tmp_path_factory, tree):
        assert_same(round_trip(tree, tmp_path_factory.getbasetemp() / "tree.safetensors"), tree)

    @pytest.mark.parametrize(
        "value",
        [np.int64(-2), np.uint8(255), np.bool_(True), np.float64(0.1), np.float32(0.1)],
        ids=repr,
    )
    def test_have_numbers_of_numpy_come_back_as_pythons(self, path, value):
        found = round_trip({"x": value}, path)["x"]
        assert type(found) is type(value.item())
        assert found == value.item()

    @pytest.mark.parametrize(
        "obj",
        [{"\ud800": opgrad.ones(1)}, {"\ud800": 1}, {"a": ["\udfff!"]}],
        ids=["key of a tensor", "key", "value"],
    )
    def test_may_hold_text_that_is_no_unicode(self, path, obj):
        assert_same(round_trip(obj, path), obj)

    def test_may_be_of_kinds_that_derive_from_dict(self, path):
        assert round_trip(OrderedDict(a=1, b=2), path) == {"a": 1, "b": 2}

    def test_give_tensors_readable_names_for_other_programs(self, path):
        opgrad.save({"layer": [{"weight": opgrad.ones(2)}], "bias": opgrad.zeros(1)}, path)
        with safetensors.safe_open(path, "np") as file:
            assert sorted(file.keys()) == ["bias", "layer.0.weight"]
            np.testing.assert_array_equal(file.get_tensor("layer.0.weight"), [1, 1])

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (np.ones(2), r"float64 \(2,\)"),
            (1j, "1j"),
            (np.complex64(1j), r"complex64 \(\)"),
            (np.timedelta64(1, "ns"), "timedelta64"),
            ({1, 2}, "set"),
            (b"x", "bytes"),
            (Pair(1, 2), "Pair"),
            (print, "builtin_function_or_method"),
        ],
        ids=str,
    )
    def test_of_anything_else_are_refused(self, path, value, shown):
        with pytest.raises(TypeError, match=rf"save: obj\[2\]\['x'\] is .*{shown}.*expected a Te"):
            opgrad.save([1, 2, {"x": value}], path)
        assert not path.exists()

    @pytest.mark.parametrize("key", [1.5, None, True, (1, 2)], ids=str)
    def test_with_other_keys_are_refused(self, path, key):
        with pytest.raises(TypeError, match=r"obj\['a'\] has the key .*expected strings and ints"):
            opgrad.save({"a": {key: 1}}, path)

    def test_that_contain_themselves_are_refused(self, path):
        loop = [1]
        loop.append({"again": loop})
        with pytest.raises(ValueError, match=r"obj\[1\]\['again'\] contains itself"):
            opgrad.save(loop, path)

    def test_may_be_nested_100_deep_and_no_deeper(self, path):
        deep = opgrad.ones(1)
        for _ in range(100):
            deep = {"a": deep}
        assert_same(round_trip(deep, path), deep)
        for _ in range(3000):
            deep = [deep]
        for each in ([[deep]], deep, {"b": deep}):
            with pytest.raises(ValueError, match=r"^save: obj\[.*more than 100 deep.*flatter form"):
                opgrad.save(each, path)

    def test_may_hold_one_container_twice(self, path):
        once = [1]
        assert round_trip([once, once], path) == [[1], [1]]


# ---------------------------------------------------------------------------- other files


class TestAFileOfAnotherProgram:
    def test_is_a_dict_of_tensors(self, path):
        save_file({"w": np.ones((2, 3), np.float32), "n": np.array(3)}, path, metadata={"by": "me"})
        assert_same(
            opgrad.load(path),
            {"n": opgrad.tensor(3), "w": opgrad.ones(2, 3, dtype="float32")},
        )

    def test_with_numbers_that_numpy_has_not_is_refused(self, path):
        write(path, {"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, bytes(4))
        with pytest.raises(FormatError, match=r"model.safetensors.*'w' is of dtype BF16"):
            opgrad.load(path)


WHOLE = {"w": leaf([1.0, 2.0, 3.0]), "names": ["a", "b"], "z": opgrad.tensor(1j)}


class TestADamagedFile:
    @pytest.fixture
    def whole(self, path):
        opgrad.save(WHOLE, path)
        return path.read_bytes()

    def test_is_refused_wherever_it_is_cut(self, path, whole):
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(FormatError, match=r"load: .*model.safetensors cannot be read: "):
                opgrad.load(path)

    def test_is_refused_or_still_a_sound_one_wherever_a_byte_of_its_head_is_another(
        self, path, whole
    ):
        (head,) = struct.unpack("<Q", whole[:8])
        refused = 0
        for place in range(8 + head):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with contextlib.suppress(FormatError):
                refused -= 1
                opgrad.load(path)
                refused += 1
        assert -refused > head / 2

    @pytest.mark.parametrize(
        "content",
        [b"", b"\x80\x04K\x01.", b"PK\x03\x04" + bytes(99), b"\x93NUMPY" + bytes(99), b"\xff" * 99],
        ids=["nothing", "a pickle", "a zip file", "a NumPy file", "noise"],
    )
    def test_is_refused_if_it_is_of_another_kind(self, path, content):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"model.safetensors cannot be read: "):
            opgrad.load(path)

    @pytest.mark.parametrize(
        "tree",
        [
            "no json",
            "[" * 100_000,
            json.dumps([]),
            json.dumps({"version": 1}),
            json.dumps({"version": "1", "tree": {"value": 1}}),
            *(
                json.dumps({"version": 1, "tree": tree})
                for tree in [
                    None,
                    {},
                    {"value": []},
                    {"list": 1},
                    {"list": [{"eval": "1"}]},
                    {"dict": {"a": {"value": 1}}},
                    {"dict": [["a"]]},
                    {"dict": [[1.5, {"value": 1}]]},
                    {"tensor": "w"},
                    {"tensor": "absent", "requires_grad": False, "complex128": False},
                    {"tensor": "w", "requires_grad": 1, "complex128": False},
                    {"tensor": "w", "requires_grad": False, "complex128": True},
                    {"tensor": "n", "requires_grad": True, "complex128": False},
                ]
            ),
        ],
        ids=lambda tree: tree[:70],
    )
    def test_is_refused_if_it_does_not_say_what_it_holds(self, path, tree):
        save_file({"w": np.ones(3), "n": np.arange(3)}, path, metadata={"opgrad": tree})
        with pytest.raises(FormatError, match=r"model.safetensors cannot be read: "):
            opgrad.load(path)

    def test_is_not_what_a_later_version_wrote(self, path):
        save_file({}, path, metadata={"opgrad": '{"version": 2, "forest": []}'})
        with pytest.raises(FormatError, match="a later version of opgrad wrote it"):
            opgrad.load(path)

    def test_is_refused_wherever_a_byte_of_its_numbers_is_another(self, path, whole):
        (head,) = struct.unpack("<Q", whole[:8])
        for place in range(8 + head, len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
            with pytest.raises(FormatError, match=r"not what was written: its checksum.*save\(\)"):
                opgrad.load(path)

    @pytest.mark.parametrize(
        ("written", "damaged"),
        [
            (b"a", b"c"),  # in the list of names
            (b'"dtype":"F64","shape":[3]', b'"dtype":"I64","shape":[3]'),
            (b'"opgrad":"', b'"opgraf":"'),
            (b'requires_grad\\": true', b'requires_grad\\":false'),
        ],
        ids=["text", "a dtype", "the name of the tree", "requires_grad"],
    )
    def test_is_refused_if_its_head_still_makes_sense(self, path, whole, written, damaged):
        old, new = (b'\\"%b\\"' % each if len(each) == 1 else each for each in (written, damaged))
        assert whole.count(old) == 1
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(FormatError, match="its checksum is another"):
            opgrad.load(path)

    def test_of_a_version_without_a_checksum_is_not_noticed(self, path):
        tree = {"list": [{"tensor": "w", "requires_grad": False, "complex128": False}]}
        text = json.dumps({"version": 1, "tree": tree})
        save_file({"w": np.ones(3)}, path, metadata={"opgrad": text})
        assert opgrad.load(path)[0].tolist() == [1, 1, 1]

    def test_is_a_value_error(self):
        assert issubclass(FormatError, ValueError)


def test_a_file_that_is_not_there_is_not_found(path):
    with pytest.raises(FileNotFoundError, match=r"model.safetensors"):
        opgrad.load(path)


@pytest.mark.parametrize("path", [5, None, b"x", opgrad.ones(1)], ids=str)
def test_what_is_no_path_is_refused(path):
    for name, do in (("load", opgrad.load), ("save", lambda path: opgrad.save(1, path))):
        with pytest.raises(TypeError, match=rf"^{name}: path is .*; expected a string or a path"):
            do(path)


def test_a_folder_is_no_file(tmp_path):
    for do in (opgrad.load, lambda folder: opgrad.save(1, folder)):
        with pytest.raises(IsADirectoryError):
            do(tmp_path)


def test_the_folder_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.*there is no folder"):
        opgrad.save(1, tmp_path / "absent" / "model.safetensors")


@pytest.mark.parametrize("call", [lambda: opgrad.save(1, "x"), lambda: opgrad.load("x")])
def test_without_the_library_it_is_said_what_to_install(monkeypatch, call):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(
        ImportError, match=r'safetensors is not installed; pip install "opgrad\[io\]"'
    ):
        call()


# -------------------------------------------------------------------------------- writing


#: Run with a path: no file of that process can grow beyond 10,000 bytes.
ON_A_FULL_DISK = """\
import resource, sys
import opgrad
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
try:
    opgrad.save({"a": opgrad.ones(100_000)}, sys.argv[1])
except OSError as error:
    sys.exit(str(error))
"""


def save_on_a_full_disk(path):
    """Return what the error says. The limit is another process's: it would hold for all of this."""
    pytest.importorskip("resource", reason="such limits are POSIX's")
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr


class TestAWrite:
    def test_that_fails_leaves_what_was_there(self, path):
        opgrad.save({"a": opgrad.ones(3)}, path)
        before = path.read_bytes()
        assert "model.safetensors cannot be written" in save_on_a_full_disk(path)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_that_fails_leaves_nothing_where_nothing_was(self, path):
        assert "model.safetensors cannot be written" in save_on_a_full_disk(path)
        assert list(path.parent.iterdir()) == []

    def test_that_is_interrupted_leaves_what_was_there(self, path, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        opgrad.save(1, path)
        monkeypatch.setattr("os.fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            opgrad.save(2, path)
        assert opgrad.load(path) == 1
        assert list(path.parent.iterdir()) == [path]

    def test_goes_beside_the_file_and_then_in_its_place(self, path, monkeypatch):
        seen = []
        replace = Path.replace

        def watched(self, target):
            seen.append((self.parent, self.stat().st_size > 0, path.read_bytes()))
            return replace(self, target)

        opgrad.save(1, path)
        before = path.read_bytes()
        monkeypatch.setattr(Path, "replace", watched)
        opgrad.save({"a": opgrad.ones(3)}, path)
        assert seen == [(path.parent, True, before)]

    def test_keeps_the_permissions_of_the_file_and_what_a_link_stands_for(self, path, tmp_path):
        opgrad.save(1, path)
        path.chmod(0o640)
        link = tmp_path / "latest"
        link.symlink_to(path)
        opgrad.save(2, link)
        assert link.is_symlink()
        assert opgrad.load(path) == 2
        assert path.stat().st_mode & 0o777 == 0o640

    def test_makes_a_new_file_with_the_usual_permissions(self, path, tmp_path):
        usual = tmp_path / "usual"
        usual.touch()
        opgrad.save(1, path)
        assert path.stat().st_mode == usual.stat().st_mode

    def test_takes_paths_of_every_kind(self, path):
        for each in (path, str(path), os.path.relpath(path)):
            assert round_trip(1, each) == 1

    def test_copies_no_tensor_that_is_contiguous(self, path):
        large = opgrad.zeros(4_000_000)
        tracemalloc.start()
        opgrad.save({"a": large, "b": large[::1]}, path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < large.data.nbytes / 4

    def test_is_read_with_one_copy(self, path):
        opgrad.save(opgrad.zeros(4_000_000, dtype="complex128"), path)
        tracemalloc.start()
        made = opgrad.load(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < made.data.nbytes * 1.25


def test_no_name_in_a_file_is_looked_up(path, monkeypatch):
    """Nothing but JSON and arrays: neither pickle, nor eval, nor an import."""
    opgrad.save(WHOLE, path)
    opgrad.load(path)

    def refuse(*args, **kwargs):
        raise AssertionError(args)

    for name in ("pickle.loads", "pickle.load", "builtins.eval", "builtins.exec"):
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr("importlib.import_module", refuse)
    assert_same(opgrad.load(path), WHOLE)
