"""The device of a benchmark: its description for the results file, its measured rates and its published peak.

A rate is measured on all devices that are used at once, because the devices of one host may share cores or memory.
Read `roofline.py` next, which projects the time of a program from these rates.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Precision = Literal["default", "float32", "bfloat16", "tf32"]
MATMUL_PRECISION = {"default": None, "float32": "float32", "bfloat16": "bfloat16", "tf32": "tensorfloat32"}
"""JAX's name of each precision of matrix products."""

PUBLISHED: dict[str, tuple[dict[str, float], str]] = {
    "TPU v4": ({"bfloat16": 275e12}, "docs.cloud.google.com/tpu/docs/v4"),
    "TPU v5 lite": ({"bfloat16": 197e12}, "docs.cloud.google.com/tpu/docs/v5e"),
    "TPU v5e": ({"bfloat16": 197e12}, "docs.cloud.google.com/tpu/docs/v5e"),
    "TPU v5": ({"bfloat16": 459e12}, "docs.cloud.google.com/tpu/docs/v5p"),
    "TPU v6 lite": ({"bfloat16": 918e12}, "docs.cloud.google.com/tpu/docs/v6e"),
    "TPU v6e": ({"bfloat16": 918e12}, "docs.cloud.google.com/tpu/docs/v6e"),
    "NVIDIA A100": ({"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12}, "NVIDIA A100 data sheet"),
    "NVIDIA H100": ({"float32": 67e12, "tf32": 494e12, "bfloat16": 989e12}, "NVIDIA H100 SXM data sheet, dense"),
    "NVIDIA H200": ({"float32": 67e12, "tf32": 494e12, "bfloat16": 989e12}, "NVIDIA H200 SXM data sheet, dense"),
}
"""Published FLOPs per second of matrix products by precision, and their source, by the beginning of the device kind."""
DEFAULT_PRECISION = {"tpu": "bfloat16", "gpu": "tf32"}  # of float32 products in JAX, by platform; elsewhere float32
LENGTHS = (8, 64, 512)  # smallest lengths of the products that are timed besides a square one
COPY_BYTES = (2**18, 2**22, 2**25, 2**28)  # sizes of the arrays whose copy is timed, from caches to main memory


class Rates(NamedTuple):
    """Measured rates of one device while all devices that are used work.

    Attributes:
      products: pairs of a length and of the FLOPs per second of matrix products whose smallest length it is, of float32
        arrays at the precision that is set. The last pair is that of large square matrices, the rate of the device.
      copies: pairs of an array's size and of the bytes per second, read and written, at which it is copied.
      instruction_seconds: time of an addition to one number in a loop: what it costs to start an instruction.
      product_seconds: time of a product of 8 x 8 matrices in a loop: what it costs to start a product.
    """

    products: tuple[tuple[int, float], ...]
    copies: tuple[tuple[int, float], ...]
    instruction_seconds: float
    product_seconds: float

    @property
    def peak(self) -> float:
        """FLOPs per second of a product of large square matrices."""
        return self.products[-1][1]

    def product(self, length: float) -> float:
        """FLOPs per second of products with this smallest length, interpolated in the logarithm of the length."""
        return _interpolated(self.products, length)

    def bandwidth(self, working_set: float) -> float:
        """Bytes per second of a program that uses `working_set` bytes, interpolated in the logarithm of the size."""
        return _interpolated(self.copies, working_set)


def _interpolated(pairs: tuple[tuple[int, float], ...], at: float) -> float:
    sizes, values = zip(*pairs, strict=True)
    return float(np.exp(np.interp(np.log(max(at, 1)), np.log(sizes), np.log(values))))


def processor() -> str:
    """Name of the processor as Linux reports it; "unknown" elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def description(num_devices: int = 1, precision: str = "default") -> dict[str, Any]:
    """Kind, number and arrangement of the devices, and everything that is set from outside the program."""
    device = jax.devices()[0]
    coordinates = [each.coords for each in jax.devices() if hasattr(each, "coords")]
    topology = "x".join(str(max(axis) + 1) for axis in zip(*coordinates, strict=True)) if coordinates else ""
    return {
        "platform": device.platform,
        "kind": processor() if device.platform == "cpu" else device.device_kind,
        "count": num_devices,
        "processes": jax.process_count(),
        "topology": topology,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "host": processor(),
        "memory_bytes": memory_bytes(),
        "precision": precision,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "libtpu_init_args": os.environ.get("LIBTPU_INIT_ARGS", ""),
    }


def memory_bytes() -> int:
    """Memory of one device in bytes; on a CPU half of the memory that is free."""
    statistics = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return int(statistics["bytes_limit"])
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    except OSError:
        return 2**32
    return int(lines["MemAvailable"].split()[0]) * 1024 // 2


def published_peak(platform: str, kind: str, precision: str = "default") -> tuple[float | None, str]:
    """The published FLOPs per second of a device kind at a precision, and their source; None if it is not listed."""
    if precision == "default":
        precision = DEFAULT_PRECISION.get("gpu" if platform in ("cuda", "rocm") else platform, "float32")
    for start in sorted(PUBLISHED, key=len, reverse=True):
        if kind.startswith(start):
            peaks, source = PUBLISHED[start]
            return peaks.get(precision), source
    return None, ""


def calibrate(num_devices: int = 1, *, side: int | None = None, sizes: tuple[int, ...] = COPY_BYTES) -> Rates:
    """Measures the rates of a device by a matrix product, by copies and by an empty loop.

    Args:
      num_devices: number of devices that work at the same time.
      side: side of the square matrices, above 512; None means 1024 on a CPU and 8192 elsewhere.
      sizes: sizes in bytes of the copied arrays.
    """
    side = side or (1024 if jax.default_backend() == "cpu" else 8192)
    mesh = Mesh(np.asarray(jax.devices()[:num_devices]), ("device",))
    place = NamedSharding(mesh, PartitionSpec("device"))

    def multiply(pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """The products of a layer, forward and of its gradient: few rows, and a short contracted axis."""
        x, weights = pair
        y = jnp.einsum("nij,njk->nik", x, weights) / side
        return x, jnp.einsum("nij,nik->njk", x, y)

    def copy(x: jax.Array) -> jax.Array:
        return x + 1.0

    def ones(*shape: int) -> jax.Array:
        return jax.device_put(jnp.ones((num_devices, *shape)), place)

    products = []
    for length in (*(length for length in LENGTHS if length < side), side):
        seconds = _seconds_per_turn(multiply, (ones(length, side), ones(side, side) / side), 0.1)
        products.append((length, 4 * length * side**2 / seconds))
    copies = []
    for size in sizes:
        copies.append((size, 2 * size / _seconds_per_turn(copy, ones(max(size // 4, 1)), 0.05)))
    small = _seconds_per_turn(multiply, (ones(8, 8), ones(8, 8) / 8), 0.02) / 2
    return Rates(tuple(products), tuple(copies), _seconds_per_turn(copy, ones(1), 0.02), small)


def _seconds_per_turn(function: Callable[[Any], Any], x: Any, target: float) -> float:
    """The least time of an application in a compiled loop that takes about `target` seconds, in five measurements."""
    loop = jax.jit(lambda x, turns: jax.lax.fori_loop(0, turns, lambda _, x: function(x), x))
    turns, seconds = 8, 0.0  # the first turn touches new memory, which takes longer
    jax.block_until_ready(loop(x, turns))
    while seconds < target and turns < 2**20:
        turns = turns if seconds == 0 else int(turns * min(10, 1.2 * target / seconds) + 1)
        started = time.perf_counter()
        jax.block_until_ready(loop(x, turns))
        seconds = time.perf_counter() - started
    times = []
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(loop(x, turns))
        times.append(time.perf_counter() - started)
    return min(times) / turns
