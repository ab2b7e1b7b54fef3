"""The time of a compiled program on one device, projected from its work and from the rates of the device.

    time = max(FLOPs of products / rate of products, bytes / bandwidth) + collectives

The work is read from the program's HLO (`hlo.py`). For the device at hand the rates are measured (`machine.calibrate`);
for TPU chips that are not there they are the published figures (`tpu.py`). Elementwise operations and random numbers
take no time beyond that of their memory traffic, so a projection is usually below the measured time.
"""

import jax

from benchmarks import hlo, machine


def projection(flops: float, memory_bytes: float, peak: float, bandwidth: float, exchange: float) -> dict[str, float]:
    """Projected seconds of products, of memory traffic and of collectives, and of the whole program."""
    compute, memory = flops / peak, memory_bytes / bandwidth
    return {
        "compute_seconds": compute,
        "memory_seconds": memory,
        "collective_seconds": exchange,
        "seconds": max(compute, memory) + exchange,
    }


def working_set(program: jax.stages.Compiled) -> int:
    """Peak bytes of a program on one device: arguments, results and temporary arrays. Donated buffers count once."""
    memory = program.memory_analysis()
    if memory is None:
        return 0
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return held + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes


def on_this_device(
    program: jax.stages.Compiled, rates: machine.Rates, num_devices: int = 1, *, unknown_turns: int = 0
) -> tuple[dict[str, float], hlo.Program]:
    """The projection for a program compiled for the device at hand, and its counted work.

    A collective moves its bytes once through the memory that the devices share, at the bandwidth of a copy.

    Args:
      program: the compiled program.
      rates: rates of the device.
      num_devices: number of devices of the program.
      unknown_turns: number of iterations to assume for a loop that does not count up to a constant.

    Raises:
      ValueError: if the text of the program cannot be read.
    """
    counted = hlo.read(program.as_text() or "", num_devices, unknown_turns=unknown_turns)
    bandwidth = rates.bandwidth(working_set(program))
    exchange = sum(each.times * 2 * each.bytes for each in counted.collectives) / bandwidth
    return projection(counted.flops, counted.memory_bytes, rates.products, bandwidth, exchange), counted
