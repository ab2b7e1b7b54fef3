"""Files that others made: what they declare is checked before it is read, and each fault is one line with its file."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from bayesjax import data
from bayesjax.data import files
from bayesjax.data.segmentation import load_segmentation
from bayesjax.evaluation import agreement


def npy(descr="<f8", shape=(2, 3), elements=b"\0" * 48, *, version=1, fields=None):
    """An .npy file with a header of one's own."""
    fields = {"descr": descr, "fortran_order": False, "shape": shape} if fields is None else fields
    header = fields if isinstance(fields, str) else repr(fields)
    length = struct.pack("<H" if version == 1 else "<I", len(header) + 1)
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + b"\n" + elements


def npz(path, members, compression=zipfile.ZIP_DEFLATED):
    """An archive of .npy files."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def changed(path, start, offset, value, nth=0):
    """Changes two bytes at an offset from the nth record that begins with `start`, in place."""
    content = bytearray(path.read_bytes())
    at = -1
    for _ in range(nth + 1):
        at = content.index(start, at + 1)
    struct.pack_into("<H", content, at + offset, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("dtype", ["f4", ">f8", "u1", "?", "c16", "U3", "M8[s]", "V2", "f2"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 3)])
def test_reads_what_numpy_writes(tmp_path, dtype, shape):
    """Bit for bit, in either order, stored and deflated, and with a header of version 2."""
    array = np.frombuffer(bytes(range(1, 97)) * 8, np.uint8).view("u2")
    array = np.resize(array.astype("u1") if dtype == "?" else array, shape).astype(dtype)
    for each in (array, np.asfortranarray(array)):
        np.save(tmp_path / "a.npy", each)
        np.savez(tmp_path / "a.npz", x=each, **{"layer/kernel": each})
        np.savez_compressed(tmp_path / "b.npz", x=each)
        with open(tmp_path / "b.npy", "wb") as file:
            np.lib.format.write_array(file, each, version=(2, 0))
        found = [data.read_npy(tmp_path / f"{name}.npy") for name in "ab"]
        found += [data.read_npz(tmp_path / "a.npz")["layer/kernel"], data.read_npz(tmp_path / "b.npz")["x"]]
        for one in found:
            assert (one.dtype, one.shape, one.tobytes()) == (each.dtype, each.shape, each.tobytes())
            assert one.flags.writeable
    assert list(data.read_npz("in memory", (tmp_path / "a.npz").read_bytes())) == ["x", "layer/kernel"]
    assert files.npz_names(tmp_path / "a.npz") == ("x", "layer/kernel")


HEADERS = {
    "1e12 elements": (npy(shape=(10**12,)), "declares 7450.58 GiB of elements.* the limit, max_bytes, is 4 GiB"),
    "an empty axis": (npy(shape=(0, 10**30)), "declares 8.58993e.09 GiB"),
    "thousands of digits": (npy(shape=(10**3000,)), "declares 8.58993e.09 GiB"),
    "too few": (npy(shape=(2, 4)), "declares 64 bytes of elements and has 48"),
    "too many": (npy(shape=(2, 2)), "declares 32 bytes of elements and has 48"),
    "objects": (npy("|O"), "holds Python objects, which are not read since they can run code; save plain arrays"),
    "structured": (npy([("a", "<f4")]), "elements of one plain type; got .*'a', '<f4'"),
    "a tuple": (npy(("<f4", (2,))), "elements of one plain type"),
    "of no size": (npy("<U0", (10**12,), b""), "elements of one plain type; got '<U0'"),
    "no type": (npy("garbage"), "elements of one plain type; got 'garbage'"),
    "a negative axis": (npy(shape=(-1, 3)), "an invalid shape or fortran_order"),
    "an axis that is no integer": (npy(shape=(2.0, 3)), "an invalid shape or fortran_order"),
    "no fields": (npy(fields={"descr": "<f8"}), "no header with descr, fortran_order and shape"),
    "code": (npy(fields="__import__('os').system('x')"), "no header with descr"),
    "deep": (npy(fields="-" * 4000 + "1"), "no header with descr"),
    "open": (npy(fields="(" * 4000), "no header with descr"),
    "long": (npy(fields=" " * 5000), "truncated or longer than 4096 bytes"),
    "version 7": (npy(version=7), "unknown version of the .npy format: .7, 0"),
    "cut in its header": (npy()[:30], "truncated"),
    "cut in its length": (npy()[:9], "truncated"),
    "cut in its elements": (npy()[:-1], "declares 48 bytes of elements and has 47"),
    "empty": (b"", "does not start with the signature of an .npy file"),
    "text": (b"x = 1", "does not start with the signature of an .npy file"),
}


@pytest.mark.parametrize(("content", "message"), HEADERS.values(), ids=HEADERS.keys())
def test_hostile_headers(tmp_path, content, message):
    """Alone and in an archive: one line that names the file, without NumPy's advice to allow pickles."""
    path = tmp_path / "alone.npy"
    path.write_bytes(content)
    for read in (
        lambda: data.read_npy(path),
        lambda: data.read_npz(npz(tmp_path / "several.npz", {"good": npy(), "x": content})),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            read()
        text = str(caught.value)
        assert text.startswith(str(tmp_path)) and "\n" not in text and "allow_pickle" not in text and len(text) < 400


def test_elements_are_read_in_parts(tmp_path):
    """A length that is no multiple of the parts, in an archive and alone."""
    array = np.random.default_rng(0).integers(256, size=2 * files.CHUNK + 3, dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", x=array // 64)
    np.testing.assert_array_equal(data.read_npy(tmp_path / "a.npy"), array)
    np.testing.assert_array_equal(data.read_npz(tmp_path / "a.npz")["x"], array // 64)


def test_python_2_wrote_long_integers(tmp_path):
    (tmp_path / "old.npy").write_bytes(npy(fields="{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 3L)}"))
    assert data.read_npy(tmp_path / "old.npy").shape == (2, 3)


ARCHIVES = {
    "encrypted": (lambda path: changed(path, b"PK\1\2", 8, 1), "its array 'x' is encrypted"),
    "method 99": (
        lambda path: changed(path, b"PK\1\2", 10, 99),
        "'x' is compressed by method 99; stored or deflated members are expected",
    ),
    "bzip2": (lambda path: npz(path, {"x": npy()}, zipfile.ZIP_BZIP2), "'x' is compressed by method 12"),
    "half": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "not a zip file"),
    "damaged": (lambda path: changed(path, b"PK\3\4", 50, 0xFFFF), "is not a readable .npz file"),
    "a sum that is wrong": (lambda path: changed(path, b"PK\1\2", 16, 0), "Bad CRC-32"),
    "twice": (lambda path: changed(path, b"y.npy", 0, ord("x") + 256 * ord("."), 1), "holds the array 'x' twice"),
    "unprintable": (lambda path: npz(path, {"a\nb": npy()}), r"name of its array 'a\\nb' has characters"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("change", "message"), ARCHIVES.values(), ids=ARCHIVES.keys())
def test_hostile_archives(tmp_path, change, message):
    path = npz(tmp_path / "a.npz", {"x": npy(), "y": npy()})
    change(path)
    with pytest.raises(ValueError, match=message) as caught:
        data.read_npz(path)
    text = str(caught.value)
    assert text.startswith(f"{path} is not a readable .npz file of plain arrays") and "\n" not in text


def test_a_bomb_is_refused_before_it_is_read(tmp_path):
    """32 MiB of zeros in an archive of 32 kB take no memory; a smaller size in the zip directory does not hide them."""
    length = 2**25
    zeros = npy("|u1", (length,), bytes(length))
    path = npz(tmp_path / "bomb.npz", {name: zeros for name in ("x_train", "x_test")})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"declares 0\.0625 GiB .* the limit, max_bytes, is 0\.0390625 GiB"):
            data.load(str(path), max_bytes=length * 5 // 4)
        with pytest.raises(ValueError, match="lacks the arrays trainA"):
            data.load_unpaired(str(path))  # finds that out without reading
        assert files.npz_names(path) == ("x_train", "x_test") and not data.is_unpaired_file(str(path))
        content = bytearray(path.read_bytes())
        struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, 9000)  # the size in the zip directory
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"declares 0\.03125 GiB"):
            data.read_npz(path, names=["x_train"], max_bytes=length // 2)
        with pytest.raises(ValueError, match=r"declares 33554432 bytes of elements and has \d{4}$"):
            data.load(str(path))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_arrays_add_up(tmp_path):
    """The limit is on all arrays together, and can be raised."""
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(100), y=np.zeros(400))
    with pytest.raises(ValueError, match="of elements, most of them 'y'; the limit"):
        data.read_npz(path, max_bytes=3999)
    assert data.read_npz(path, max_bytes=4000)["y"].shape == (400,)


def test_damage_at_random_is_one_line_or_harmless():
    """Bytes changed anywhere in an archive: no error but ValueError, whatever zipfile and NumPy would have raised."""
    random = np.random.default_rng(0)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.arange(6.0), y=np.arange(3))
    good, refused = buffer.getvalue(), 0
    for _ in range(500):
        content = bytearray(good)
        for place in random.integers(len(good), size=random.integers(1, 4)):
            content[place] = random.integers(256)
        try:
            data.read_npz("damaged", bytes(content))
        except ValueError as error:
            refused += 1
            assert str(error).startswith("damaged is not a readable") and "\n" not in str(error)
    assert refused > 250


def test_other_readers(tmp_path):
    """References, corpora, segmentation sets and domains are read by the same functions."""
    path = tmp_path / "hmc.npy"
    path.write_bytes(npy(shape=(10**12,)))
    with pytest.raises(ValueError, match=r"declares 7450\.58 GiB"):
        agreement.load_reference(path)
    np.save(path, np.eye(3) * 1j)
    with pytest.raises(ValueError, match="must hold real numbers; got elements of type complex128"):
        agreement.load_reference(path)
    (tmp_path / "a.txt").write_bytes(b"caf\xe9" * 20)
    with pytest.raises(ValueError, match=r"a\.txt is not text in UTF-8"):
        data.load_text(str(tmp_path / "a.txt"))
    npz(tmp_path / "train.npz", dict.fromkeys(("label", "image"), npy(shape=(10**12,))))
    with pytest.raises(ValueError, match=r"train\.npz is not a readable"):
        load_segmentation(str(tmp_path))
    path = npz(tmp_path / "a.npz", dict.fromkeys(("trainA", "trainB", "testA", "testB"), npy(shape=(10**12,))))
    with pytest.raises(ValueError, match=r"a\.npz is not a readable .* declares 29802\.3 GiB"):
        data.load_unpaired(str(path))
