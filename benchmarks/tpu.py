"""The projected cost of bayesjax's steps on 1 to 256 TPU chips, from ahead-of-time compilation without a TPU.

`libtpu` contains XLA's TPU compiler, and `jax.experimental.topologies` describes the chips. Nothing is run or
allocated, because the arguments are shapes. Each compiled step gives the FLOPs of its products, the bytes it moves in
HBM, the peak memory of a chip, and the collectives with their bytes (`hlo.py`). Together with the chip's published
figures they give a roofline:

    time        = max(FLOPs / peak, HBM bytes / bandwidth) + sum over collectives of their time
    all-gather  = (n - 1)/n bytes / (links x link bandwidth) + hops x latency; an all-reduce takes twice that
    efficiency  = time on 1 chip / time on n chips, divided by n if the work is the same for any n (strong scaling)

    pip install -e '.[tpu]'
    python -m benchmarks.tpu                                               ten minutes on two idle cores
    python -m benchmarks.tpu --chips 1 16 --topologies v5e --workloads hmc      a short check

The times are projections and not measurements; the results list the assumptions. On a machine without a TPU, libtpu
warns that it finds no host; TPU_ACCELERATOR_TYPE=v5e-4 TPU_WORKER_HOSTNAMES=localhost suppresses the warning. Results:
benchmarks/results/tpu.json.
"""

import importlib.util
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from bayesjax.training import parallel
from benchmarks import hlo, measure, tpu_workloads
from benchmarks.roofline import projection


class Chip(NamedTuple):
    """Published figures of one chip.

    Attributes:
      peak: bf16 FLOPs per second.
      hbm_bandwidth, hbm_gib: bandwidth of the HBM in bytes per second, and its capacity in GiB.
      link_bandwidth: bandwidth of a link in one direction, in bytes per second.
      slices: topology by number of chips.
      options: options of the topology; a v4 chip is one device, as in JAX, rather than two cores.
      source: source of the figures.
    """

    peak: float
    hbm_bandwidth: float
    hbm_gib: float
    link_bandwidth: float
    slices: dict[int, str]
    options: dict[str, Any]
    source: str


FLAT = {1: "1x1", 4: "2x2", 16: "4x4", 64: "8x8", 256: "16x16"}
CUBES = {1: "1x1x1", 4: "2x2x1", 16: "2x2x4", 64: "4x4x4", 256: "4x8x8"}
CHIPS = {
    "v4": Chip(
        275e12, 1200e9, 32, 45e9, CUBES, {"chip_config_name": "megacore"},
        "docs.cloud.google.com/tpu/docs/v4; links: jax-ml.github.io/scaling-book/tpus",
    ),
    "v5e": Chip(
        197e12, 819e9, 16, 50e9, FLAT, {},
        "docs.cloud.google.com/tpu/docs/v5e (ICI 400 GB/s a chip, both ways, over 4 links)",
    ),
    "v5p": Chip(
        459e12, 2765e9, 95, 100e9, CUBES, {},
        "docs.cloud.google.com/tpu/docs/v5p (ICI 1200 GB/s a chip, both ways, over 6 links)",
    ),
    "v6e": Chip(
        918e12, 1638e9, 32, 100e9, FLAT, {},
        "docs.cloud.google.com/tpu/docs/v6e (ICI 800 GB/s a chip, both ways, over 4 links)",
    ),
}  # fmt: skip
HOP_SECONDS = 1e-6  # latency of a link: jax-ml.github.io/scaling-book/sharding
ASSUMPTIONS = (
    "Float32 products run at JAX's default precision: one bf16 pass of the matrix unit, so the peak is that of bf16.",
    "Matrix products of any size fill the matrix unit. Elementwise operations and random numbers take no time. The "
    "times are therefore lower bounds, which are loosest for the Bayesian GAN with its noise and its batches of 64.",
    "HBM bytes are those of arrays that XLA did not place in the chip's own memory; they move at the full bandwidth.",
    "Collectives do not overlap with computation or with one another. A group of chips lies along as few axes of the "
    "slice as possible and uses the links of all of them. It uses both directions where a whole axis forms a ring "
    "(v5e and v6e: axes of length 16; v4 and v5p: slices of 64 chips or more). A hop takes a microsecond.",
    "A step is compiled by itself, with its diagnostics and with donated buffers for its state. The host, the input "
    "and the start of a program take no time.",
)


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.tpu."""

    topologies: tuple[Literal["v4", "v5e", "v5p", "v6e"], ...] = ("v4", "v5e", "v5p", "v6e")
    """Kinds of chips to compile for."""
    chips: tuple[int, ...] = tuple(FLAT)
    """Numbers of chips to compile for."""
    workloads: tuple[Literal["hmc", "nuts", "sghmc", "bayesian_gan", "vae"], ...] = (
        "hmc", "nuts", "sghmc", "bayesian_gan", "vae",
    )  # fmt: skip
    """Steps to compile."""
    size: Literal["full", "smoke"] = "full"
    """Size of networks and data: full for the documentation's tables, smoke for a check that compiles in seconds."""
    out: str = str(measure.RESULTS / "tpu.json")
    """The JSON file to write."""


# ---- compiling


def devices(kind: str, num_chips: int) -> Sequence[Any]:
    """The chips to compile for."""
    chip = CHIPS[kind]
    name, options = f"{kind}:{chip.slices[num_chips]}", dict(chip.options)
    if num_chips == 1:  # a host has four chips by default
        options["chips_per_host_bounds"] = (1, 1, 1)
    return topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices


def compiled(workload: tpu_workloads.Workload, chips: Sequence[Any]) -> jax.stages.Compiled:
    """The step of a workload, spread over the chips."""
    kernel = parallel.spread(workload.kernel, data=workload.data, particle=workload.particle, devices=chips)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(workload.kernel.init, workload.position, key)
    # A spread kernel has the shardings of its arguments; for a single chip they must be given.
    where: dict[str, Any] = {"in_shardings": SingleDeviceSharding(chips[0])} if len(chips) == 1 else {}
    return jax.jit(kernel.step, donate_argnums=1, **where).lower(key, state, workload.batch).compile()


def cost(kind: str, num_chips: int, workload: tpu_workloads.Workload) -> dict[str, Any]:
    """The work of the compiled step on each chip, and its projected time.

    Raises:
      ArithmeticError: if XLA reports no cost, or FLOPs that disagree with the counted products.
    """
    started = time.perf_counter()
    program = compiled(workload, devices(kind, num_chips))
    seconds = time.perf_counter() - started
    text, of_xla, memory = program.as_text(), program.cost_analysis(), program.memory_analysis()
    if text is None or of_xla is None or memory is None:
        raise ArithmeticError(f"XLA reports no cost of {workload.what} on {num_chips} x {kind}")
    counted = hlo.read(text, num_chips, unknown_turns=workload.unknown_turns)
    if not of_xla["flops"] / 5 <= counted.flops_once <= of_xla["flops"]:  # XLA also counts elementwise work
        raise ArithmeticError(f"{counted.flops_once:.3g} FLOPs of products were found, {of_xla['flops']:.3g} by XLA")
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "chips": num_chips,
        "slice": CHIPS[kind].slices[num_chips],
        "data": workload.data,
        "particle": workload.particle,
        "flops": counted.flops,
        "hbm_bytes": counted.memory_bytes,
        "peak_bytes": peak + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes,
        "collectives": [collective._asdict() for collective in counted.collectives],
        "xla": {key: of_xla[key] for key in ("flops", "bytes accessed")},
        "compile_seconds": seconds,
        **roofline(kind, num_chips, counted),
    }


# ---- the roofline


def roofline(kind: str, num_chips: int, program: hlo.Program) -> dict[str, float]:
    """Projected seconds of products, memory traffic and collectives, and of the whole step."""
    chip = CHIPS[kind]
    exchange = sum(each.times * exchange_seconds(kind, num_chips, each) for each in program.collectives)
    return projection(program.flops, program.memory_bytes, chip.peak, chip.hbm_bandwidth, exchange)


def exchange_seconds(kind: str, num_chips: int, collective: hlo.Collective) -> float:
    """Time of one collective on rings along the axes of the torus."""
    num, along = collective.group, rings(kind, num_chips, collective.group)
    links = sum(2 if is_closed else 1 for _, is_closed in along)
    hops = sum(length // 2 if is_closed else length - 1 for length, is_closed in along)
    share = 1.0 if collective.kind == "collective-permute" else (num - 1) / num
    once = share * collective.bytes / (links * CHIPS[kind].link_bandwidth) + hops * HOP_SECONDS
    return 2 * once if collective.kind == "all-reduce" else once


def rings(kind: str, num_chips: int, group: int) -> list[tuple[int, bool]]:
    """Lengths of a group of chips along the axes of the slice, in descending order, and which axes are closed rings."""
    found, chip = [], CHIPS[kind]
    for length in sorted(map(int, chip.slices[num_chips].split("x")), reverse=True):
        part = min(length, group)
        group //= part
        is_closed = num_chips >= 64 if chip.slices is CUBES else length == 16
        found.append((part, is_closed and part == length))
    return [(length, is_closed) for length, is_closed in found if length > 1]


def efficiency(rows: list[dict[str, Any]], scaling: str) -> list[float | None]:
    """Time on one chip over time on n chips, divided by n for strong scaling; None without a result for one chip."""
    alone = next((row["seconds"] for row in rows if row["chips"] == 1), math.nan)
    found = [alone / row["seconds"] / (row["chips"] if scaling == "strong" else 1) for row in rows]
    return [None if math.isnan(value) else value for value in found]


def check(config: Config) -> None:
    """Ends the program with one line and exit code 2 if a flag is invalid."""
    if importlib.util.find_spec("libtpu") is None:
        measure.fail("this benchmark compiles for TPUs with the package libtpu: pip install -e '.[tpu]'")
    for name in ("topologies", "chips", "workloads"):
        if not getattr(config, name):
            measure.fail(f"--{name} is empty")
    for num in config.chips:
        if num not in FLAT:
            measure.fail(f"--chips must be among {', '.join(map(str, FLAT))}; got {num}")
    measure.make_folder(config.out)


def main(config: Config) -> None:
    """Compiles, prints the tables and writes the file."""
    check(config)
    workloads = {}
    for name in config.workloads:
        make = tpu_workloads.WORKLOADS[name]
        by_kind = {}
        for kind in config.topologies:
            rows = []
            for num in sorted(set(config.chips)):
                rows.append(cost(kind, num, make(num, config.size)))
                print(f"{name} on {num} x {kind}: {rows[-1]['compile_seconds']:.0f} s to compile", flush=True)
            for row, value in zip(rows, efficiency(rows, make(1, config.size).scaling), strict=True):
                row["efficiency"] = value
            by_kind[kind] = rows
        one = make(1, config.size)
        workloads[name] = {"what": one.what, "scaling": one.scaling, "on": by_kind}
    results = {
        **measure.made_by("libtpu"),
        "workloads": workloads,
        "hardware": {kind: CHIPS[kind]._asdict() for kind in config.topologies},
        "assumptions": ASSUMPTIONS,
    }
    measure.write(config.out, results)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
