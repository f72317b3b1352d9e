"""What a pickle may hold: data is read as Python reads it; a pickle that would do something is refused, and does nothing."""

from __future__ import annotations

import copyreg
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc_assets.adoption.safe_pickle import MOST_BYTES, load_pickle, parse_pickle
from dlc_assets.lab.errors import InputError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
DATA: dict[str, Any] = {
    "cropping": True,
    "cropping_parameters": [12, 640, -3, 1 << 70],
    "fractions": (0.95, None, b"bytes \xff", "ü", 1 + 2j),
    "keys": {("labeled-data", "a", "img1.png"): {1, 2}, 3: frozenset({"x"})},
    "trainIndices": np.arange(7),
    "big endian": np.arange(4, dtype=">f4").reshape(2, 2),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "texts": np.array(["one", "three"]),
    "bytes": np.array([b"one", b"three"]),
    "objects": np.array(["a", None, 3], dtype=object),
    "scalar": np.float64(0.5),
    "bool": np.bool_(True),
    "empty": np.empty((0, 3)),
    "array of bytes": bytearray(b"abc"),
}


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, np.ndarray):
        return type(one) is np.ndarray and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in other)
    if isinstance(other, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(_same, one, other))
    return bool(type(one) is type(other) and one == other)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_and_arrays_come_out_as_they_went_in(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "data_meta.pickle"
    path.write_bytes(pickle.dumps(DATA, protocol))
    read = load_pickle(path)
    assert [key for key in DATA if not _same(read[key], DATA[key])] == []


def test_an_array_that_stands_twice_is_one_array() -> None:
    array = np.arange(3)
    one, other = parse_pickle(pickle.dumps([array, array]), "here")
    assert one is other


def test_the_pickles_of_python_2_are_read() -> None:
    pickled = b"\x80\x02}q\x00(U\x04dataq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01bq\x04"
    pickled += b"\x87Rq\x05"
    pickled += b"(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02i8K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    pickled += b"\x89U\x10\x01\x00\x00\x00\x00\x00\x00\x00\xff\x00\x00\x00\x00\x00\x00\x00tbu."
    assert _same(parse_pickle(pickled, "here"), {"data": np.array([1, 255])})


def test_words_of_deeplabcuts_configurations_become_plain_data() -> None:
    choice = b"cdeeplabcut.pose_estimation_pytorch.config.enums\nNetType\n(Vresnet_50\ntR"
    assert parse_pickle(choice + b".", "here") == "resnet_50"
    assert parse_pickle(pickle.dumps({"project_path": Path("/lab/walk")}), "here") == {"project_path": "/lab/walk"}
    windows = rb"cpathlib\nWindowsPath\n(VC:\u005c\nVlab\ntR.".replace(rb"\n", b"\n")
    assert parse_pickle(windows, "here") == r"C:\lab"
    attributes = b"\x80\x02ceasydict\nEasyDict\n)\x81}(U\x01aK\x01ubU\x01aK\x02s."
    assert parse_pickle(attributes, "here") == {"a": 2}
    ordered = OrderedDict(a=1, b=OrderedDict(c=2))
    assert type(parse_pickle(pickle.dumps(ordered), "here")["b"]) is dict
    assert parse_pickle(pickle.dumps(ordered), "here") == ordered


class Creates:
    """Creates a file when it is loaded."""

    def __init__(self, path: Path, call: Any = None) -> None:
        self.path, self.call = path, call

    def __reduce__(self) -> Any:
        return self.call or (os.mkdir, (str(self.path),))


class Inert:
    pass


def _hostile(tmp_path: Path, protocol: int) -> dict[str, bytes]:
    made = tmp_path / "made"
    mkdir = f"(V{made}\ntR"
    dumps = pickle.dumps
    nested = {"data": {"cropping": [(Creates(made),)]}}
    eval_call = (eval, (f"__import__('os').mkdir({str(made)!r})",))
    array_of_objects = np.array([Creates(made)], dtype=object)
    return {
        "reduce": dumps(Creates(made), protocol),
        "reduce in the depth": dumps(nested, protocol),
        "eval": dumps(Creates(made, eval_call), protocol),
        "an array of objects": dumps(array_of_objects, protocol),
        "numpy's reduce with another class": f"cnumpy.core.multiarray\n_reconstruct\n(cos\nmkdir\n(I0\ntVb\ntR{mkdir}.".encode(),
        "numpy's loader": f"cnumpy\nload\n(V{made}\ntR.".encode(),
        "numpy's test runner": b"cnumpy.testing._private.utils\nrunstring\n(Vimport os\n}tR.",
        "a choice that is a call": f"cdeeplabcut.utils\nauxfun\n(cos\nmkdir\ntR{mkdir}.".encode(),
        "a choice that is called twice": f"cdeeplabcut.utils\nauxfun\n(Va\ntR(V{made}\ntR.".encode(),
        "a choice that is not made": b"cdeeplabcut.utils\nauxfun\n.",
        "a choice with a state": b"cdeeplabcut.utils\nauxfun\n(Va\ntR}b.",
        "inst": f"(V{made}\nios\nmkdir\n.".encode(),
        "obj": f"(cos\nmkdir\nV{made}\no.".encode(),
        "the copyreg constructor": f"ccopyreg\n_reconstructor\n(cos\nmkdir\nc__builtin__\nobject\nNtR{mkdir}.".encode(),
        "copy_reg": f"ccopy_reg\n_reconstructor\n(cos\nmkdir\nc__builtin__\nobject\nNtR{mkdir}.".encode(),
        "getattr": f"c__builtin__\ngetattr\n(cos\nVmkdir\ntR{mkdir}.".encode(),
        "a dotted name": b"\x80\x04\x8c\x08builtins\x8c\x0dset.__class__\x93.",
        "a call of what a call gave": f"c__builtin__\nset\n)R{mkdir}.".encode(),
        "the state of a class": f"cnumpy\nndarray\n}}V__setstate__\ncos\nmkdir\nsb(V{made}\nb.".encode(),
        "the state of a list": f"]}}V__class__\ncos\nmkdir\nsb{mkdir}.".encode(),
        "persistent ids": f"(lPcos\nmkdir {made}\na.".encode(),
        "nested persistent ids": f"((lP{made}\nQaQ.".encode(),
        "an instance": dumps(Inert(), protocol),
        "a name alone": dumps(os.mkdir, protocol),
        "a name in tuples": b"((cnumpy\nndarray\nttlp0\n0(lp1\ng0\na.",
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_that_would_create_a_file_is_refused_and_creates_none(tmp_path: Path, protocol: int) -> None:
    before = set(tmp_path.iterdir())
    for name, pickled in _hostile(tmp_path, protocol).items():
        with pytest.raises(InputError, match="byte"):
            parse_pickle(pickled, name)
        assert set(tmp_path.iterdir()) == before, name
    pickle.loads(_hostile(tmp_path, protocol)["reduce"])
    assert (tmp_path / "made").is_dir()  # Python's own reader does it


def test_extension_codes_are_refused(tmp_path: Path) -> None:
    copyreg.add_extension(os.mkdir.__module__, "mkdir", 241)
    try:
        pickled = pickle.dumps(Creates(tmp_path / "made"), 2)
        with pytest.raises(InputError, match="EXT1"):
            parse_pickle(pickled, "here")
    finally:
        copyreg.remove_extension(os.mkdir.__module__, "mkdir", 241)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"\x80",
        b"not a pickle",
        pickle.dumps(DATA)[:-40],
        b"(lp0\n",
        b"g7\n.",
        b"0.",
        b"(K\x01.",
        b"}K\x01a.",
        b"](K\x01K\x02u.",
        b"]]\x93.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"(}K\x01s.",
        b"(]tp0\n}g0\nK\x01s.",
        b"I" + b"9" * 5000 + b"\n.",
        b")" + b"\x85" * 3000 + b"q\x00}h\x00K\x01s.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n(I99999999\ntcnumpy\ndtype\n(Vf8\nI0\nI1\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntbI00\nVx\ntb.",
        b"cnumpy\ndtype\n(V(1000000,1000000)f8\nI0\nI1\ntR.",
        b"cnumpy\ndtype\n(VO\nI0\nI1\ntR(I3\nV|\n(Va\ntp0\n}g0\nI8\nI8\nI0\ntb.",
    ],
)  # fmt: skip
def test_what_is_damaged_or_too_deep_is_refused_with_its_place(pickled: bytes) -> None:
    with pytest.raises(InputError, match=r"here: .*byte \d+"):
        parse_pickle(pickled, "here")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large_meta.pickle"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InputError, match="at most 256 MiB, got 256 MiB"):
        load_pickle(path)


def test_deeplabcuts_own_pickles_hold_what_python_reads_from_them(real_data: Path) -> None:
    folder = real_data / "trimouse-results"
    for name in ("trimouse_meta.pickle", "trimouse_assemblies.pickle"):
        with (folder / name).open("rb") as file:
            assert _close(load_pickle(folder / name), pickle.load(file)), name
    with pytest.raises(InputError, match=r"pandas\.core\.indexes"):
        load_pickle(folder / "trimouse_tracklets.pickle")


def _close(one: Any, other: Any) -> bool:
    """Say whether both are equal, a number of a YAML file and a plain one too."""
    if isinstance(other, np.ndarray):
        return type(one) is np.ndarray and np.array_equal(one, other, equal_nan=other.dtype.kind == "f")
    if isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in other)
    if isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_close, one, other))
    return bool(one == other)
