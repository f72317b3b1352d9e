"""Reading the data in a pickle without running it.

A pickle is a program: loading one with Python's own reader calls whatever it names. Here its instructions are carried out by a small
machine that knows plain values, containers and numpy's arrays and has no way to import, call or look up anything. What is neither is
refused before it matters, whichever instruction it hides behind (reduce, copyreg, build, persistent ids, extension codes, buffers).

A few words of DeepLabCut's own pickles stand for plain data and are read as that: DeepLabCut 3 keeps its configuration with choices
(enumerations) and paths in it, which become texts; DeepLabCut 2 with dictionaries that have attributes and numbers that remember how they
were written, which become dictionaries and numbers.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from dlc_assets.lab.errors import InputError

MOST_BYTES = 1 << 28  # a pickle of facts has kilobytes; one of a large project's labels has megabytes
_DEEPEST_KEY = 8  # hashing a tuple goes down by recursion, which no Python limit guards

_MARK = object()
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip

_ARRAY = "numpy.core.multiarray _reconstruct"
_FROM_BUFFER = "numpy.core.numeric _frombuffer"
_SCALAR = "numpy.core.multiarray scalar"
_NDARRAY = "numpy ndarray"
_DTYPE = "numpy dtype"
_ENCODE = "_codecs encode"  # how old protocols hold bytes
_YAML_FLOAT = (
    "ruamel.yaml.scalarfloat ScalarFloat"  # a number of config.yaml, as DeepLabCut reads it: kept as the number
)
_DICTIONARIES = {"easydict EasyDict", "collections OrderedDict"}
_PATHS: dict[str, type[PurePosixPath | PureWindowsPath]] = {
    **{
        f"{module} {kind}": PurePosixPath
        for module in ("pathlib", "pathlib._local")
        for kind in ("PosixPath", "PurePosixPath")
    },
    **{
        f"{module} {kind}": PureWindowsPath
        for module in ("pathlib", "pathlib._local")
        for kind in ("WindowsPath", "PureWindowsPath")
    },
}
_CHOICES = "deeplabcut."  # modules of its enumerations: a choice is written as the class and the choice's value
_BUILTINS = {"set", "frozenset", "bytes", "bytearray", "complex", "slice", "range"}
_KNOWN = {
    _ARRAY,
    _FROM_BUFFER,
    _SCALAR,
    _NDARRAY,
    _DTYPE,
    _ENCODE,
    _YAML_FLOAT,
    *_DICTIONARIES,
    *_PATHS,
    *(f"builtins {n}" for n in _BUILTINS),
}
_KINDS = "biufcSU"  # of numbers and texts: an array of these is its bytes


@dataclass(frozen=True)
class _Name:
    """A name that the pickle mentions: a word to this machine, never the thing."""

    name: str


@dataclass
class _Unfilled:
    """An array, type or number between the instruction that begins it and the one that gives its content."""

    kind: str
    value: Any = None
    memo: list[int] = field(default_factory=list)


class _Refused(Exception):
    """What the pickle holds is not allowed, or is no pickle."""


def load_pickle(path: Path) -> Any:
    """Return the data in the pickle at *path*: built-in values and containers, and numpy arrays, types and scalars of them.

    Nothing that the file names is imported or called. Pickles of protocol 0 to 5 are read, those of Python 2 too (their byte strings
    as text, Latin-1). The choices and paths of DeepLabCut's configurations become texts, its special dictionaries and numbers plain ones.

    Raises
    ------
    InputError
        The file holds anything else (it says what, and at which byte), is cut off or damaged, or is larger than 256 MiB.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise InputError(
            f"{path}: expected a pickle of at most {MOST_BYTES >> 20} MiB, got {size >> 20} MiB; it is not read. State what it "
            "would tell by hand."
        )
    return parse_pickle(path.read_bytes(), str(path))


def parse_pickle(data: bytes, where: str) -> Any:
    """Return the data in the pickle *data*, as `load_pickle` does; *where* names its place in errors."""
    machine = _Machine()
    place = 0
    try:
        for opcode, argument, position in pickletools.genops(data):
            place = position or 0
            if opcode.name == "STOP":
                return machine.result()
            machine.step(opcode.name, argument)
    except _Refused as refused:
        raise InputError(
            f"{where}: not read, because at byte {place} {refused}. Only plain values and numpy arrays are taken from pickles. If "
            "this file is one of DeepLabCut's, state by hand what it would tell; else find out who put it there."
        ) from None
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, RecursionError, MemoryError) as error:
        raise InputError(f"{where}: expected a pickle, but it is cut off or damaged at byte {place}: {error}") from None
    raise InputError(f"{where}: expected a pickle, but it is cut off at byte {len(data)}.")


class _Machine:
    """Carries out the instructions of one pickle on a stack of plain data."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._with_attributes: dict[
            int, dict[Any, Any]
        ] = {}  # by identity: dictionaries whose attributes repeat their items

    def result(self) -> Any:
        if len(self._stack) != 1:
            raise _Refused(f"it ends with {len(self._stack)} values in the place of one")
        return _whole(self._stack[0])

    def step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            count = _TUPLES[name]
            values = [self._pop() for _ in range(count)][::-1]
            stack.append(tuple(map(_part, values)))
        elif name in _PUTS or name == "MEMOIZE":
            value, place = self._top(), len(self._memo) if name == "MEMOIZE" else int(argument)
            self._memo[place] = value
            if isinstance(value, _Unfilled):
                value.memo.append(place)
        elif name in _GETS:
            stack.append(self._memo[int(argument)])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in {"PROTO", "FRAME"}:
            pass
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise _Refused(f"it uses {name}, which plain data does not need")

    def _top(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise _Refused("a value is missing")
        return self._stack[-1]

    def _pop(self) -> Any:
        self._top()
        return self._stack.pop()

    def _to_mark(self) -> list[Any]:
        values: list[Any] = []
        while self._stack:
            value = self._stack.pop()
            if value is _MARK:
                return values[::-1]
            values.append(_whole(value))
        raise _Refused("a mark is missing")

    def _discard(self, _: Any) -> None:
        if not self._stack:
            raise _Refused("a value is missing")
        self._stack.pop()

    def _discard_to_mark(self, _: Any) -> None:
        self._to_mark()

    def _copy(self, _: Any) -> None:
        self._stack.append(self._top())

    def _tuple(self, _: Any) -> None:
        values: list[Any] = []
        while self._stack:
            value = self._stack.pop()
            if value is _MARK:
                self._stack.append(tuple(map(_part, values[::-1])))
                return
            values.append(value)
        raise _Refused("a mark is missing")

    def _list(self, _: Any) -> None:
        self._stack.append(self._to_mark())

    def _dict(self, _: Any) -> None:
        made: dict[Any, Any] = {}
        _fill(made, self._to_mark())
        self._stack.append(made)

    def _frozenset(self, _: Any) -> None:
        self._stack.append(frozenset(map(_key, self._to_mark())))

    def _append(self, _: Any) -> None:
        value = _whole(self._pop())
        _expect(self._top(), list).append(value)

    def _appends(self, _: Any) -> None:
        values = self._to_mark()
        _expect(self._top(), list).extend(values)

    def _set_item(self, _: Any) -> None:
        value, key = _whole(self._pop()), _whole(self._pop())
        _fill(_expect(self._top(), dict), [key, value])

    def _set_items(self, _: Any) -> None:
        values = self._to_mark()
        _fill(_expect(self._top(), dict), values)

    def _add_items(self, _: Any) -> None:
        values = self._to_mark()
        _expect(self._top(), set).update(map(_key, values))

    def _global(self, argument: Any) -> None:
        self._stack.append(_named(*argument.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        self._stack.append(_named(module, name))

    def _reduce(self, _: Any) -> None:
        arguments, name = _expect(self._pop(), tuple), self._pop()
        if not isinstance(name, _Name):
            raise _Refused(f"it calls a value ({type(name).__name__})")
        self._stack.append(
            self._dictionary() if name.name in _DICTIONARIES and not arguments else _made(name.name, arguments)
        )

    def _dictionary(self) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        self._with_attributes[id(made)] = made
        return made

    def _new(self, _: Any) -> None:
        arguments, name = _expect(self._pop(), tuple), self._pop()
        if isinstance(name, _Name) and name.name in _DICTIONARIES and not arguments:
            self._stack.append(self._dictionary())
            return
        if name != _Name(_YAML_FLOAT) or len(arguments) != 1 or type(arguments[0]) is not float:
            raise _Refused("it makes an object of a class")
        self._stack.append(_Unfilled("number", arguments[0]))

    def _build(self, _: Any) -> None:
        state, unfilled = self._pop(), self._pop()
        if id(unfilled) in self._with_attributes:
            self._stack.append(unfilled)
            return
        if not isinstance(unfilled, _Unfilled):
            raise _Refused(f"it sets the state of a value ({type(unfilled).__name__})")
        value = unfilled.value  # of a number: how it was written in the YAML file does not matter
        if unfilled.kind == "array":
            value = _array(state)
        elif unfilled.kind == "dtype":
            value = _ordered(value, state)
        for place in unfilled.memo:
            self._memo[place] = value
        self._stack.append(value)


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "POP": _Machine._discard,
    "POP_MARK": _Machine._discard_to_mark,
    "DUP": _Machine._copy,
    "TUPLE": _Machine._tuple,
    "LIST": _Machine._list,
    "DICT": _Machine._dict,
    "FROZENSET": _Machine._frozenset,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "ADDITEMS": _Machine._add_items,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._new,
    "BUILD": _Machine._build,
}


def _named(module: Any, name: Any) -> _Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise _Refused("it names something by what is no text")
    meant = f"{module} {name}".replace("numpy._core.", "numpy.core.", 1).replace("__builtin__ ", "builtins ", 1)
    if meant not in _KNOWN and not module.startswith(_CHOICES):
        raise _Refused(f"it names {module}.{name}"[:200])
    return _Name(meant)


def _made(name: str, arguments: tuple[Any, ...]) -> Any:
    """Return what a call of *name* with *arguments* stands for, made by this module alone."""
    types = tuple(type(argument) for argument in arguments)
    if name == _ARRAY and len(arguments) == 3 and arguments[0] == _Name(_NDARRAY):
        return _Unfilled("array")
    if name == _DTYPE and types[:1] == (str,):
        return _Unfilled("dtype", _plain_dtype(arguments[0]))
    if name == _SCALAR and len(arguments) == 2:
        dtype = _finished_dtype(arguments[0])
        return _filled(dtype, _bytes(arguments[1]), (1,), "C")[0]
    if name == _FROM_BUFFER and len(arguments) == 4:
        data, dtype, shape, order = arguments
        return _filled(_finished_dtype(dtype), _bytes(data), shape, order)
    if name == _ENCODE and types == (str, str) and arguments[1] in {"latin1", "latin-1"}:
        return arguments[0].encode("latin-1")
    if name in _PATHS and set(types) <= {str}:
        return str(_PATHS[name](*arguments))
    if name.startswith(_CHOICES) and types in {(str,), (int,)}:
        return arguments[0]
    if name == "builtins set" and types in {(), (list,)}:
        return set(map(_key, *arguments)) if arguments else set()
    if name == "builtins frozenset" and types in {(), (list,)}:
        return frozenset(map(_key, *arguments)) if arguments else frozenset()
    if name in {"builtins bytes", "builtins bytearray"} and types in {(), (bytes,), (list,)}:
        data = bytes(*arguments)
        return bytearray(data) if name.endswith("array") else data
    if name == "builtins bytearray" and types == (str, str) and arguments[1] in {"latin1", "latin-1"}:
        return bytearray(arguments[0].encode("latin-1"))
    if name == "builtins complex" and types == (float, float):
        return complex(*arguments)
    if name == "builtins slice" and len(types) == 3 and set(types) <= {int, type(None)}:
        return slice(*arguments)
    if name == "builtins range" and types == (int, int, int):
        return range(*arguments)
    raise _Refused(f"it calls {name.replace(' ', '.')} in a way that plain data does not need")


def _plain_dtype(text: str) -> np.dtype[Any]:
    # Only a kind and a size: the longer language of types (records, sub-arrays) describes memory that is not only numbers.
    kind, size = text[:1], text[1:]
    if kind == "O" and size in {"", "4", "8"}:
        return np.dtype(object)
    if kind not in _KINDS or not size.isascii() or not size.isdigit() or len(size) > 6:
        raise _Refused(f"it holds an array of the type {text[:40]!r}")
    return np.dtype(text)


def _ordered(dtype: np.dtype[Any], state: Any) -> np.dtype[Any]:
    """Return *dtype* in the byte order of its *state*; of texts, with the length that it states."""
    if not isinstance(state, tuple) or len(state) < 7 or state[1] not in {"<", ">", "|", "="}:
        raise _Refused("it describes a type of array in an unknown way")
    if any(value is not None for value in state[2:5]):
        raise _Refused("it holds an array of records")
    if dtype.kind in "SU" and isinstance(state[5], int) and 0 < state[5] < 1 << 20 and dtype.itemsize in {0, state[5]}:
        letters = state[5] // 4 if dtype.kind == "U" else state[5]
        dtype = np.dtype(f"{dtype.kind}{letters}")
    return dtype if state[1] in {"|", "="} else dtype.newbyteorder(state[1])


def _finished_dtype(value: Any) -> np.dtype[Any]:
    if not isinstance(value, np.dtype):
        raise _Refused("it holds an array without its type")
    return value


def _array(state: Any) -> np.ndarray:
    if not isinstance(state, tuple) or len(state) != 5:
        raise _Refused("it describes an array in an unknown way")
    _, shape, dtype, fortran, data = state
    return _filled(_finished_dtype(dtype), data, shape, "F" if fortran else "C")


def _filled(dtype: np.dtype[Any], data: Any, shape: Any, order: Any) -> np.ndarray:
    """Return the array of *shape* whose content is *data*: bytes, or a list of values where *dtype* is object."""
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise _Refused("it holds an array without a shape")
    if len(shape) > 32 or order not in {"C", "F"}:
        raise _Refused("it holds an array of an unknown layout")
    count = math.prod(shape)
    if dtype.kind == "O":
        values = _expect(data, list)
        if len(values) != count:
            raise _Refused(f"it holds an array of {count} values and gives {len(values)}")
        array = np.empty(count, dtype=object)
        for place, value in enumerate(values):
            array[place] = value
    else:
        content = _bytes(data)
        if len(content) != count * dtype.itemsize or (not dtype.itemsize and count):
            raise _Refused(f"it holds an array of {count * dtype.itemsize} bytes and gives {len(content)}")
        array = np.frombuffer(content, dtype=dtype).copy() if count else np.empty(0, dtype=dtype)
    return array.reshape(shape, order=order)


def _bytes(data: Any) -> bytes:
    """Return the bytes of an array; Python 2 kept them in a string."""
    if isinstance(data, str):
        return data.encode("latin-1")
    if not isinstance(data, (bytes, bytearray)):
        raise _Refused("it holds an array without its bytes")
    return bytes(data)


def _part(value: Any) -> Any:
    """Return a part of a tuple; one that only the machine sees may hold a name."""
    if isinstance(value, _Unfilled):
        raise _Refused("it uses a value before it is whole")
    return _whole(value) if isinstance(value, tuple) else value


def _whole(value: Any) -> Any:
    """Return *value* if it is data, whole and without a name in it."""
    if isinstance(value, (_Unfilled, _Name)):
        raise _Refused("it keeps a name in the place of a value")
    if isinstance(value, tuple) and any(isinstance(part, (_Unfilled, _Name)) for part in value):
        raise _Refused("it keeps a name in the place of a value")
    return value


def _key(value: Any, depth: int = 0) -> Any:
    """Return *value* if it can be hashed safely."""
    if isinstance(value, tuple):
        if depth > _DEEPEST_KEY:
            raise _Refused("it nests keys without end")
        for part in value:
            _key(part, depth + 1)
        return value
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        return value
    if isinstance(value, frozenset):  # whose items came through here
        return value
    raise _Refused(f"it uses a {type(value).__name__} as a key")


def _fill(into: dict[Any, Any], values: list[Any]) -> None:
    if len(values) % 2:
        raise _Refused("a key has no value")
    for place in range(0, len(values), 2):
        into[_key(values[place])] = values[place + 1]


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise _Refused(f"it uses a {type(value).__name__} as a {kind.__name__}")
    return value
