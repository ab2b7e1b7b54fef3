"""Valid JSON, and arrays of every JAX type in .npz files, both written atomically (`bayesjax/atomic.py`).

Every error message is one line that names the file. Read `guards.py` next.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax.atomic import cause, replacing
from bayesjax.data import files as data_files

# ---- JSON


def dumps(value: Any, **options: Any) -> str:
    """Converts dicts, lists, strings, numbers and arrays to JSON.

    Numbers that are not finite become null, because JSON has none.

    Args:
      value: the value to convert.
      **options: arguments of `json.dumps`.
    """
    return json.dumps(_plain(value), allow_nan=False, **options)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        return _plain(np.asarray(value).tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file and creates its folder.

    Raises:
      OSError: if `path` cannot be written; the message is one line with its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(dumps(value, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict:
    """Reads a JSON object.

    Raises:
      OSError: if the file is missing, is not JSON in UTF-8, or does not hold an object; the message is one line with
        its name.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OSError(f"cannot read {path}: {cause(error)}") from error
    if not isinstance(value, dict):
        raise OSError(f"cannot read {path}: it does not contain a JSON object")
    return value


# ---- arrays


def write_arrays(path: Path, leaves: Sequence[Any]) -> None:
    """Writes arrays of any JAX type to an `.npz` file, with the names of their types.

    The names are needed because NumPy stores bfloat16 as raw bytes. Keys are stored as their integers.

    Args:
      path: the file.
      leaves: the arrays and keys.

    Raises:
      OSError: if `path` cannot be written; the message is one line with its name.
    """
    types, arrays = [], []
    for leaf in leaves:
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        types.append(f"key {jax.random.key_impl(leaf)}" if is_key else array.dtype.name)
        arrays.append(array)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, *arrays, types=np.array(types, dtype=np.str_))


def read_arrays(path: Path) -> list[Any]:
    """Reads the arrays that `write_arrays` has written.

    Raises:
      OSError: if the file is missing or damaged; the message is one line with its name.
    """
    arrays = read_npz(path)
    try:
        return [_typed(arrays[f"arr_{i}"], str(name)) for i, name in enumerate(arrays["types"])]
    except (KeyError, ValueError, TypeError) as error:
        raise OSError(f"cannot read {path}: {cause(error)}") from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an `.npz` file that a run has written. Only the size of the file limits their size.

    Raises:
      OSError: if the file is missing or damaged; the message is one line with its name.
    """
    try:
        size = path.stat().st_size
        return data_files.read_npz(path, max_bytes=max(data_files.MAX_BYTES, 8 * size))
    except OSError as error:
        raise OSError(f"cannot read {path}: {cause(error)}") from error
    except ValueError as error:
        raise OSError(str(error)) from error


def _typed(array: np.ndarray, name: str) -> Any:
    if name.startswith("key "):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=name.removeprefix("key "))
    return array.view(jnp.dtype(name))
