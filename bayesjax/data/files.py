"""Readers of untrusted .npz, .npy and text files, which check the declared sizes before they read the contents.

    arrays = read_npz(path)         {"x_train": ..., "y_train": ...}
    array = read_npy(path)
    text = read_text(path)
    table = read_numbers(path)

An .npy file consists of a header of about a hundred bytes (element type, shape, order) and the elements. An .npz file
is a zip archive of such files (`numpy.lib.format`). A header can declare a terabyte, and a compressed member can be a
thousand times larger than its part of the archive. Declared sizes are therefore summed and compared with `max_bytes`
first, and no more is read than was declared. Arrays of Python objects are refused, because loading them can run code
from the file. Any error in the contents raises a one-line ValueError that names the file. Read `dataset.py` next.
"""

import ast
import contextlib
import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np

MAX_BYTES = 4 * 2**30
"""Default limit on the total size of the arrays of a file, 4 GiB."""

MAGIC, MAX_HEADER, CHUNK = b"\x93NUMPY", 4096, 2**20
METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
MALFORMED = (
    zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError, OSError, RuntimeError, OverflowError,
    MemoryError,
)  # fmt: skip
"""The exceptions of `zipfile`, `zlib` and NumPy for damaged, truncated or malicious contents."""


class _Header(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    is_fortran: bool
    length: int

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def declared(self) -> int:
        """`num_bytes` with axes of length 0 counted as 1, since NumPy also limits the other axes of an empty array."""
        return math.prod(max(length, 1) for length in self.shape) * self.dtype.itemsize


def read_npz(
    path: str | Path,
    contents: bytes | None = None,
    *,
    names: Collection[str] | None = None,
    max_bytes: int = MAX_BYTES,
) -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz file; members that are not arrays are ignored.

    Args:
      path: the file.
      contents: the bytes of the file, if they are already in memory; `path` then occurs only in error messages.
      names: names of the arrays to read; names that are not in the file are ignored. None reads all arrays.
      max_bytes: limit in bytes on the total size of the arrays that are read.

    Returns:
      The arrays by name.

    Raises:
      ValueError: if the file is not a readable archive of plain arrays, or they are larger than `max_bytes`.
      OSError: if the file cannot be opened.
    """
    opened = open(path, "rb") if contents is None else io.BytesIO(contents)  # noqa: SIM115
    with opened as file, _named(path, ".npz"), zipfile.ZipFile(file) as archive:
        members = {name: info for name, info in _members(archive).items() if names is None or name in names}
        headers = {}
        for name, info in members.items():
            with archive.open(info) as stream:
                headers[name] = _header(stream, info.file_size, f"its array {name!r}")
        _check_size(headers, max_bytes)
        arrays = {}
        for name, info in members.items():
            with archive.open(info) as stream:
                arrays[name] = _array(stream, headers[name], info.file_size, f"its array {name!r}")
        return arrays


def npz_names(path: str | Path) -> tuple[str, ...]:
    """Reads the names of the arrays of an .npz file without reading the arrays.

    Raises:
      ValueError: if the file is not a readable archive.
      OSError: if the file cannot be opened.
    """
    with open(path, "rb") as file, _named(path, ".npz"), zipfile.ZipFile(file) as archive:
        return tuple(_members(archive))


def read_npy(path: str | Path, *, max_bytes: int = MAX_BYTES) -> np.ndarray:
    """Reads the array of an .npy file.

    Args:
      path: the file.
      max_bytes: limit in bytes on the size of the array.

    Raises:
      ValueError: if the file is not readable as one plain array, or the array is larger than `max_bytes`.
      OSError: if the file cannot be opened.
    """
    with open(path, "rb") as file, _named(path, ".npy"):
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        header = _header(file, size, "its array")
        _check_size({"": header}, max_bytes)
        file.seek(0)
        return _array(file, header, size, "its array")


def read_text(path: str | Path) -> str:
    """Reads a text file in UTF-8.

    Raises:
      ValueError: if the file is not in UTF-8.
      OSError: if the file cannot be opened.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}") from None


def read_numbers(path: str | Path, *, ndim: Literal[1, 2] = 2) -> np.ndarray:
    """Reads a table of numbers from a text file, separated by commas or blanks; comments begin with #.

    Args:
      path: the file.
      ndim: minimum number of axes of the result; rows come first.

    Returns:
      A float64 array.

    Raises:
      ValueError: if the file is not text in UTF-8, or its rows are not numbers or differ in length.
      OSError: if the file cannot be opened.
    """
    lines = [line for line in read_text(path).splitlines() if line.split("#")[0].strip()]
    if not lines:  # NumPy would warn
        return np.empty((0,) * ndim)
    try:
        return np.loadtxt(lines, delimiter="," if "," in lines[0] else None, ndmin=ndim)
    except ValueError as error:
        raise ValueError(f"{path} is not a table of numbers: {str(error).partition(';')[0]}") from None


def check_real(array: np.ndarray, name: str) -> None:
    """Raises ValueError unless the elements are real numbers or booleans; casting other types would change them."""
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} must hold real numbers; got elements of type {array.dtype}")


@contextlib.contextmanager
def _named(path: str | Path, kind: str) -> Iterator[None]:
    """Converts any error in the contents of a file to a one-line ValueError that names the file."""
    try:
        yield
    except MALFORMED as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is not a readable {kind} file of plain arrays: {cause}") from None


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members of the archive that are arrays, by name."""
    members = {}
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            continue
        name = info.filename.removesuffix(".npy")
        if name in members:
            raise ValueError(f"it holds the array {name!r} twice")
        if not name.isprintable():
            raise ValueError(f"the name of its array {name!r} has characters that cannot be printed")
        if info.flag_bits & 1:
            raise ValueError(f"its array {name!r} is encrypted")
        if info.compress_type not in METHODS:
            raise ValueError(
                f"its array {name!r} is compressed by method {info.compress_type}; {' or '.join(METHODS.values())} "
                f"members are expected, as np.savez and np.savez_compressed write them"
            )
        members[name] = info
    return members


def _header(stream: IO[bytes], size: int, name: str) -> _Header:
    """Reads the header of an array; `size` is the size of the header and the elements."""
    head = stream.read(min(size, MAX_HEADER))
    if not head.startswith(MAGIC):
        raise ValueError(f"{name} does not start with the signature of an .npy file")
    version = tuple(head[6:8])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"{name} has an unknown version of the .npy format: {version}")
    start = 10 if version == (1, 0) else 12
    length = start + int.from_bytes(head[8:start], "little")
    if length > len(head):
        raise ValueError(f"{name} has a header that is truncated or longer than {MAX_HEADER} bytes")
    try:
        # NumPy under Python 2 wrote long integers, such as 60000L.
        text = re.sub(r"(?<=\d)L\b", "", head[start:length].decode("utf-8" if version == (3, 0) else "latin1"))
        fields = ast.literal_eval(text.strip())
        descr, is_fortran, shape = (fields.pop(key) for key in ("descr", "fortran_order", "shape"))
    except (SyntaxError, ValueError, TypeError, KeyError, AttributeError, MemoryError, RecursionError):
        raise ValueError(f"{name} has no header with descr, fortran_order and shape") from None
    is_shape = isinstance(shape, tuple) and all(type(length) is int and length >= 0 for length in shape)
    if not is_shape or not isinstance(is_fortran, bool):
        raise ValueError(f"{name} has a header with an invalid shape or fortran_order")
    return _Header(_plain_dtype(descr, name), shape, is_fortran, length)


def _plain_dtype(descr: object, name: str) -> np.dtype:
    try:
        dtype = np.dtype(descr) if isinstance(descr, str) else None
    except (TypeError, ValueError, SyntaxError):
        dtype = None
    if dtype is not None and dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are not read since they can run code; save plain arrays")
    if dtype is None or dtype.fields or dtype.subdtype or not dtype.itemsize:
        raise ValueError(f"{name} must have elements of one plain type; got {str(descr)[:60]!r}")
    return dtype


def _check_size(headers: dict[str, _Header], max_bytes: int) -> None:
    declared = sum(header.declared for header in headers.values())
    if declared > max_bytes:
        largest = max(headers, key=lambda name: headers[name].declared)
        # In GiB, capped at 2^63 bytes, because a malicious number may have thousands of digits.
        sizes = [f"{min(size, 2**63) / 2**30:.6g} GiB" for size in (declared, max_bytes)]
        detail = f", most of them {largest!r}" if len(headers) > 1 else ""
        raise ValueError(f"it declares {sizes[0]} of elements{detail}; the limit, max_bytes, is {sizes[1]}")


def _array(stream: IO[bytes], header: _Header, size: int, name: str) -> np.ndarray:
    """Skips the header and reads the elements directly into the array."""
    if size - header.length != header.num_bytes:
        raise ValueError(f"{name} declares {header.num_bytes} bytes of elements and has {size - header.length}")
    stream.read(header.length)
    array = np.empty(math.prod(header.shape), header.dtype)
    target = array.view(np.uint8)
    for start in range(0, header.num_bytes, CHUNK):
        part = target[start : start + CHUNK]
        chunk = stream.read(len(part))
        if len(chunk) < len(part):
            raise ValueError(f"{name} ends after {start + len(chunk)} of {header.num_bytes} bytes of elements")
        part[:] = np.frombuffer(chunk, np.uint8)
    return array.reshape(header.shape[::-1]).T if header.is_fortran else array.reshape(header.shape)
