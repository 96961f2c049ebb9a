"""Reader for MATLAB 5 files, which MATLAB writes with `-v6` and `-v7`.

Unlike scipy.io.loadmat, which a single wrong byte can crash together with the interpreter, it checks every size against
the bytes that are there: a damaged file gives one error.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stavis.errors import StavisError

try:
    # Unpacks the long runs of zeros of a fixation map some forty times faster.
    from zlib_ng import zlib_ng as zlib
except ImportError:
    import zlib  # type: ignore[no-redef]

HEADER_BYTES = 128

# Data types and array classes by their numbers in the format's description ("MAT-File Format", The MathWorks).
_NUMBER_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX = 14
_COMPRESSED = 15
_CELL_CLASS = 1
_STRUCT_CLASS = 2
_TEXT_CLASS = 4
_SPARSE_CLASS = 5
_NUMERIC_CLASSES = range(6, 16)
_OTHER_CLASSES = {
    1: "a cell array",
    2: "a struct",
    3: "an object",
    4: "text",
    16: "a function",
    17: "an object",
}
_COMPLEX_FLAG = 0x0800
_MAX_FULL_SIZE = 1 << 27  # numbers in a sparse matrix: a damaged size must not fill the memory
_MAX_UNPACKED = 1 << 30  # bytes of all variables: a few kilobytes can be made to inflate to any size
_MAX_DEPTH = 32  # cells and structs inside each other
_TEXT_ENCODINGS = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


class _DamagedError(Exception):
    """The bytes violate the format."""


class _NotNumbersError(Exception):
    """The variable is not a matrix of real numbers."""


class _Element(NamedTuple):
    """A tagged part of the file: the number of its type, and its bytes."""

    kind: int
    data: memoryview


class _Matrix(NamedTuple):
    """The header of a matrix, and its parts, still unread."""

    name: str
    array_class: int
    is_complex: bool
    shape: tuple[int, ...]
    order: str
    parts: Iterator[_Element]


def read_matrix(path: Path, name: str) -> npt.NDArray[Any]:
    """Reads the numeric or logical matrix `name`; a sparse one is returned as a full one.

    Returns:
        The matrix in its stored number type, which can be smaller than its MATLAB class: zeros and ones of class double
        are stored in 8 bits.

    Raises:
        StavisError: The file is missing, damaged, not a MATLAB 5 file (7.3 is not) or without a variable of that name,
            or the variable is not a matrix of real numbers.
    """
    data, order = _open(path, name)
    names = []
    try:
        for matrix in _matrices(data, order, name):
            if matrix.name == name:
                return _numbers(matrix, order)
            names.append(matrix.name)
    except _DamagedError as error:
        raise StavisError(f"{path}: damaged MATLAB file ({error})") from None
    except _NotNumbersError as error:
        raise StavisError(f"{path}: '{name}' is {error}; expected a matrix of real numbers") from None
    raise StavisError(f"{path}: has no variable '{name}'; found: {', '.join(names) or 'none'}")


def read_variables(path: Path) -> dict[str, Any]:
    """Reads every variable of a file.

    Returns:
        Name -> value: an array of numbers, as of `read_matrix`; text as `str`, or as an array of the rows of a text
        matrix; a cell array as an array of objects of its shape; a struct as a dictionary, or an array of these; and
        None for what is none of these (complex numbers, objects, functions).

    Raises:
        StavisError: The file is missing, damaged, not a MATLAB 5 file (7.3 is not), or inflates to over 1 GiB.
    """
    data, order = _open(path, "name")
    variables: dict[str, Any] = {}
    budget = _MAX_UNPACKED
    try:
        for kind, content in _elements(data, order, padded=False):
            element = _Element(kind, content)
            if kind == _COMPRESSED:
                unpacked = _unpack(content, at_most=budget, whole=True)
                budget = max(1, budget - len(unpacked))
                inner = next(_elements(memoryview(unpacked), order, padded=False), None)
                if inner is None:
                    raise _DamagedError("an empty variable")
                element = inner
            matrix = _matrix(element, order)
            if matrix.name:  # what MATLAB keeps for itself has no name
                variables[matrix.name] = _value(matrix, order, 0)
    except _DamagedError as error:
        raise StavisError(f"{path}: damaged MATLAB file ({error})") from None
    return variables


def _open(path: Path, name: str) -> tuple[memoryview, str]:
    """The bytes behind the header of a MATLAB 5 file, and their byte order."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StavisError(f"{path}: cannot be read ({error.strerror})") from None
    if data[:10] == b"MATLAB 7.3" or data[:4] == b"\x89HDF":
        raise StavisError(f"{path}: a MATLAB 7.3 (HDF5) file; save it with -v7: save(file, '{name}', '-v7')")
    order = {b"IM": "<", b"MI": ">"}.get(data[HEADER_BYTES - 2 : HEADER_BYTES])
    if order is None:
        raise StavisError(f"{path}: not a MATLAB 5 file ({len(data)} bytes)")
    return memoryview(data)[HEADER_BYTES:], order


def _matrices(data: memoryview, order: str, wanted: str) -> Iterator[_Matrix]:
    """The variables of a file. Compressed ones are only inflated to their names, except the wanted one."""
    for element in _elements(data, order, padded=False):
        kind, content = element
        if kind == _COMPRESSED:
            unpacked = _unpack(content, at_most=256 + len(wanted), whole=False)
            # The name is known without the numbers, which are cut off here.
            cut = wanted.encode() not in unpacked
            if not cut:
                unpacked = _unpack(content)
            inner = next(_elements(memoryview(unpacked), order, padded=False, cut=cut), None)
            if inner is None:
                raise _DamagedError("an empty variable")
            yield _matrix(inner, order, cut=cut)
        else:
            yield _matrix(element, order)


def _unpack(packed: memoryview, at_most: int = _MAX_UNPACKED, *, whole: bool = True) -> bytes:
    """Inflates a zlib stream, or no more than its first `at_most` bytes, which must be all of it with `whole`."""
    stream = zlib.decompressobj()
    try:
        unpacked = stream.decompress(packed, at_most)
    except zlib.error as error:  # type: ignore[misc]
        raise _DamagedError(str(error)) from None
    if whole and not stream.eof:
        problem = f"inflates to over {at_most >> 20} MiB" if len(unpacked) >= at_most else "ends early"
        raise _DamagedError(f"compressed data {problem}")
    return unpacked


def _elements(data: memoryview, order: str, *, padded: bool = True, cut: bool = False) -> Iterator[_Element]:
    """The consecutive elements in `data`; with `cut`, the last one may be incomplete."""
    begin = 0
    while begin < len(data):
        if len(data) - begin < 8:
            raise _DamagedError("it ends inside a tag")
        kind, size = struct.unpack_from(order + "II", data, begin)
        if kind >> 16:  # a small element: type, size and up to 4 bytes share 8 bytes
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise _DamagedError(f"a small element of {size} bytes")
            begin += 4
            end, following = begin + size, begin + 4
        else:
            begin += 8
            end = begin + size
            following = end + (-end % 8 if padded else 0)
        if end > len(data) and not cut:
            raise _DamagedError(f"it ends {end - len(data)} bytes early")
        yield _Element(kind, data[begin:end])
        begin = following


def _matrix(element: _Element, order: str, cut: bool = False) -> _Matrix:
    if element.kind != _MATRIX:
        raise _DamagedError(f"a variable of data type {element.kind}")
    parts = _elements(element.data, order, cut=cut)
    try:
        flags, shape, name = (next(parts) for _ in range(3))
        (word,) = struct.unpack_from(order + "I", flags.data)
        return _Matrix(
            name=bytes(name.data).decode("latin-1"),
            array_class=word & 0xFF,
            is_complex=bool(word & _COMPLEX_FLAG),
            shape=struct.unpack(f"{order}{len(shape.data) // 4}i", shape.data),
            order=order,
            parts=parts,
        )
    except (RuntimeError, StopIteration, struct.error):
        raise _DamagedError("a variable without flags, size or name") from None


def _value(matrix: _Matrix, order: str, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise _DamagedError(f"more than {_MAX_DEPTH} cells or structs inside each other")
    if min(matrix.shape, default=0) < 0 or len(matrix.shape) < 2:
        raise _DamagedError(f"the size {matrix.shape}")
    if matrix.array_class == _TEXT_CLASS:
        return _text(matrix)
    if matrix.array_class in (_CELL_CLASS, _STRUCT_CLASS):
        fields = _field_names(matrix, order) if matrix.array_class == _STRUCT_CLASS else [""]
        values = [
            # An empty entry may have no bytes at all.
            _value(_matrix(part, order), order, depth + 1) if len(part.data) else np.zeros((0, 0))
            for part in matrix.parts
        ]
        if len(values) != len(fields) * int(np.prod(matrix.shape, dtype=object)):
            raise _DamagedError(f"{len(values)} entries for the size {matrix.shape}")
        if matrix.array_class == _STRUCT_CLASS:
            step = len(fields)
            values = [
                dict(zip(fields, values[i : i + step], strict=True))
                for i in range(0, len(values), max(1, step))
            ]
            if not fields:
                return None
            if len(values) == 1:
                return values[0]
        array = np.empty(len(values), object)
        array[:] = values
        return array.reshape(matrix.shape, order="F")
    try:
        return _numbers(matrix, order)
    except _NotNumbersError:
        return None


def _text(matrix: _Matrix) -> Any:
    part = next(matrix.parts, _Element(1, memoryview(b"")))
    if part.kind not in _TEXT_ENCODINGS:
        raise _DamagedError(f"text of data type {part.kind}")
    encoding = _TEXT_ENCODINGS[part.kind]
    if encoding != "utf-8":
        encoding += {"<": "-le", ">": "-be"}[matrix.order]
    text = bytes(part.data).decode(encoding, errors="replace")
    if matrix.shape[0] <= 1 or len(text) != np.prod(matrix.shape, dtype=object):
        return text
    rows = np.array(list(text), dtype=str).reshape((matrix.shape[0], -1), order="F")
    return np.array(["".join(row) for row in rows])


def _field_names(matrix: _Matrix, order: str) -> list[str]:
    length, names = next(matrix.parts, None), next(matrix.parts, None)
    if length is None or names is None or len(length.data) < 4:
        raise _DamagedError("a struct without names of fields")
    (size,) = struct.unpack_from(order + "i", length.data)
    if size < 1 or len(names.data) % size:
        raise _DamagedError("names of fields of another length than announced")
    data = bytes(names.data)
    return [data[i : i + size].partition(b"\0")[0].decode("latin-1") for i in range(0, len(data), size)]


def _numbers(matrix: _Matrix, order: str) -> npt.NDArray[Any]:
    if matrix.is_complex:
        raise _NotNumbersError("complex")
    if min(matrix.shape, default=0) < 0 or len(matrix.shape) < 2:
        raise _DamagedError(f"the size {matrix.shape}")
    if matrix.array_class != _SPARSE_CLASS and matrix.array_class not in _NUMERIC_CLASSES:
        raise _NotNumbersError(_OTHER_CLASSES.get(matrix.array_class, f"of class {matrix.array_class}"))
    arrays = [_array(part, order) for part in matrix.parts]
    if len(arrays) != (3 if matrix.array_class == _SPARSE_CLASS else 1):
        raise _DamagedError(f"a matrix of {len(arrays)} parts")
    if matrix.array_class == _SPARSE_CLASS:
        return _full(arrays[0], arrays[1], arrays[2], matrix.shape)
    (numbers,) = arrays
    if numbers.size != np.prod(matrix.shape, dtype=object):
        raise _DamagedError(f"{numbers.size} numbers for the size {matrix.shape}")
    return numbers.reshape(matrix.shape, order="F")


def _array(element: _Element, order: str) -> npt.NDArray[Any]:
    if element.kind not in _NUMBER_TYPES:
        raise _DamagedError(f"numbers of data type {element.kind}")
    dtype = np.dtype(order + _NUMBER_TYPES[element.kind])
    if len(element.data) % dtype.itemsize:
        raise _DamagedError(f"{len(element.data)} bytes of {dtype.itemsize}-byte numbers")
    return np.frombuffer(element.data, dtype)


def _full(
    rows: npt.NDArray[Any], column_starts: npt.NDArray[Any], numbers: npt.NDArray[Any], shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """The full matrix for a sparse one, which is stored as the rows and numbers of each column."""
    if len(shape) != 2 or np.prod(shape, dtype=object) > _MAX_FULL_SIZE:
        raise _DamagedError(f"a sparse matrix of the size {shape}")
    height, width = shape
    if rows.dtype.kind not in "iu" or column_starts.dtype.kind not in "iu":
        raise _DamagedError("a sparse matrix whose indices are not whole numbers")
    if column_starts.size != width + 1 or column_starts[0] != 0 or (np.diff(column_starts) < 0).any():
        raise _DamagedError("the columns of a sparse matrix do not follow each other")
    num_stored = int(column_starts[-1])
    rows, numbers = rows[:num_stored], numbers[:num_stored]  # there may be room for more
    if rows.size != num_stored or numbers.size != num_stored or not ((rows >= 0) & (rows < height)).all():
        raise _DamagedError("the rows of a sparse matrix are not inside it")
    result = np.zeros(shape, dtype=numbers.dtype, order="F")
    result[rows, np.repeat(np.arange(width), np.diff(column_starts))] = numbers
    return result
