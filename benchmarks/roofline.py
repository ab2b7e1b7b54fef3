"""The time of a compiled program on one device, projected from its work and from the rates of the device.

For TPU chips that are not there, the rates are published figures (`tpu.py`), and the whole program has one roof:

    time = max(FLOPs / peak, bytes / bandwidth) + collectives

For the device at hand the rates are measured (`machine.calibrate`), and the instructions run one after another:

    time = sum over instructions of max(FLOPs / rate, bytes / bandwidth, start) + collectives

The rate of a product depends on its smallest length, the bandwidth on the memory of the program, and `start` is the
least time of a product or of another instruction. The work is read from the program's HLO (`hlo.py`). Arithmetic other
than products takes no time beyond its memory traffic, so that a projection leaves out functions such as `tanh`, and
random numbers.
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
) -> tuple[float, hlo.Program]:
    """Projected seconds of a program compiled for the device at hand, and its counted work.

    A collective reads and writes its bytes in the memory that the devices share, at the bandwidth of a copy.

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
    seconds = sum(each.times * 2 * each.bytes for each in counted.collectives) / bandwidth
    for work in counted.work:
        compute = sum(flops / rates.product(length) for flops, length in work.products)
        start = rates.product_seconds if work.products else rates.instruction_seconds
        seconds += work.times * max(compute, work.bytes / bandwidth, start)
    return seconds, counted
