"""Prints the versions, devices, data folders and optional packages that bayesjax finds: python -m bayesjax."""

import importlib.metadata
import os
import platform
from pathlib import Path

import jax

import bayesjax
from bayesjax.data.decoded import cache_folder

REQUIRED = ("jax", "jaxlib", "flax", "optax", "distrax", "blackjax", "numpy", "tensorflow-datasets")
OPTIONAL = ("arviz", "equinox", "numpyro", "distreqx", "torch", "datasets", "pandas", "jax-cuda12-plugin", "libtpu")
FOLDERS = ("BAYESJAX_DATA_DIR", "TFDS_DATA_DIR")


def version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def folder_contents(folder: str) -> str:
    """The names of the entries of a folder, or why there are none."""
    try:
        names = sorted(entry.name for entry in Path(folder).iterdir() if not entry.name.startswith("."))
    except OSError as error:
        return f"{folder}: {error.strerror}"
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"{folder}: {shown or 'empty'}"


def describe() -> list[str]:
    """The lines of the report."""
    found = {package: version(package) for package in (*REQUIRED, *OPTIONAL)}
    devices: dict[str, int] = {}
    for device in jax.devices():
        devices[device.device_kind] = devices.get(device.device_kind, 0) + 1
    cache = cache_folder()
    files = [path for path in cache.glob("*.npz") if path.is_file()] if cache else []
    size = sum(path.stat().st_size for path in files) / 2**20
    lines = {
        "bayesjax": f"{bayesjax.__version__}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {found[name] or 'MISSING'}" for name in REQUIRED),
        "optional": ", ".join(f"{name} {found[name]}" for name in OPTIONAL if found[name]) or "none",
        "not installed": ", ".join(name for name in OPTIONAL if not found[name]) or "none",
        "devices": ", ".join(f"{num} x {kind}" for kind, num in devices.items()) + f" ({jax.default_backend()})",
        **{name: folder_contents(folder) if (folder := os.getenv(name)) else "not set" for name in FOLDERS},
        "decoded images": f"{cache}: {len(files)} data sets, {size:.0f} MiB" if cache else "not kept",
    }
    width = max(map(len, lines))
    return [f"{name:<{width}}  {text}" for name, text in lines.items()]


if __name__ == "__main__":
    print("\n".join(describe()))
