"""Devices, processes and compiler of a run.

    python -m experiments.NAME --devices 8 --parallel pmap        eight devices of one process
    python -m experiments.NAME --devices 4 --processes 2          two processes of four devices on this machine
    python -m experiments.NAME --devices 4 --processes 0          on every host of a pod, once

With `--processes 2` the command starts itself twice and waits (`bayesjax.training.launch`). Only process 0 prints and
writes to the run folder. A second start reads its programs from ~/.cache/bayesjax; BAYESJAX_CACHE_DIR= keeps none.
"""

import os
import sys
import traceback
from typing import NoReturn

import jax

from bayesjax import training
from bayesjax.training import launch, parallel, programs
from bayesjax.types import Kernel
from experiments.harness.cli import BAD_INPUT, RunConfig


def prepare(config: RunConfig) -> None:
    """Configures JAX's devices and compiler; it must be called before JAX's first computation.

    If the flags request several processes, it starts them, waits for them and exits with their exit code.
    """
    if config.processes > 1 and "JAX_PROCESS_ID" not in os.environ:
        command = [sys.executable, *sys.orig_argv[1:]]
        raise SystemExit(launch.run(command, config.processes, devices=config.devices, reported=BAD_INPUT))
    if (config.devices > 1 or config.processes != 1) and "JAX_NUM_CPU_DEVICES" not in os.environ:
        # Twice as many devices as are used: XLA:CPU has one thread per device. A reduction may hold the threads of all
        # its devices, and other work in flight needs further threads.
        jax.config.update("jax_num_cpu_devices", 2 * config.devices)
    if (folder := programs.cache_folder()) and not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(folder))  # an error in reading or writing is a warning
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if config.fast_compile:
        compile_fast()


def compile_fast() -> None:
    """Lets XLA compile with few optimisations; it must be called before JAX's first computation."""
    jax.config.update("jax_disable_most_optimizations", True)
    if jax.__version_info__[:2] == (0, 10):  # an unknown flag ends the process
        flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"


def join() -> None:
    """Connects this process to the other processes of the run, which `prepare` or a cluster has started."""
    training.initialize(**launch.coordinates())


def missing(config: RunConfig) -> str:
    """Error message about a flag that the available devices cannot satisfy; empty if there is none."""
    num = config.devices * jax.process_count()
    if config.devices > jax.local_device_count():
        return f"--devices must be at most {jax.local_device_count()}, the number available; got {config.devices}"
    if config.data_devices and num % config.data_devices:
        return f"--data-devices must divide the {num} devices; got {config.data_devices}"
    return ""


def spread(config: RunConfig, kernel: Kernel) -> Kernel:
    """Spreads a kernel over the devices of a configuration.

    Raises:
      ValueError: if the particles or the batch cannot be divided over the devices.
    """
    num, data = config.devices * jax.process_count(), config.data_devices
    parts = {"data": data, "particle": num // data} if data else parallel.axis_sizes(kernel, num, config.parallel)
    return parallel.spread(kernel, data=parts["data"], particle=parts["particle"], transform=config.parallel)


def leave(error: BaseException) -> NoReturn:
    """Ends one of several processes immediately. JAX's own exit would wait minutes for the other processes."""
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
