"""Benchmarks on the device at hand: CPU, GPU or TPU, one device or all of a host.

    python -m benchmarks.run --suite samplers                           ten minutes on two idle cores
    python -m benchmarks.run --suite samplers --devices 8               chains divided over eight devices
    python -m benchmarks.run --suite samplers --kernel my_sampler:MALA  a sampler of your own beside the others
    python -m benchmarks.run --suite samplers --weights 1000 --chains 1 --repeats 2 --quality-seconds 0    a check
    python -m benchmarks.run --suite vae                                training a VAE, until a published ELBO
    python -m benchmarks.run --suite bnn                                samplers, until they agree with a posterior
    python -m benchmarks.run --suite bayesian_gan                       sweeps over J and M, and a published divergence

A suite runs on the backend that JAX finds (JAX_PLATFORMS is left as it is). The rates at which the device multiplies
and copies are measured first. Results go to benchmarks/results/devices, one file for each suite and device. `python -m
benchmarks.report` makes one page of all of them. A flag has no effect in suites that its text does not name. Read
`suites/samplers.py`, `suites/vae.py`, `suites/bnn.py` and `suites/bayesian_gan.py` next.
"""

import os
import re
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal

import jax

from benchmarks import machine, measure, processes
from benchmarks.suites import bayesian_gan, bnn, samplers, vae
from experiments.harness import provenance

FOLDER = measure.RESULTS / "devices"
SUITES = {"samplers": samplers, "vae": vae, "bnn": bnn, "bayesian_gan": bayesian_gan}
WEIGHTS, CHAINS = (1000, 10_000, 100_000, 1_000_000, 10_000_000), (1, 4, 16, 64, 256, 1024, 4096)
Name = Literal["sgd", "sgld", "sghmc", "sgnht", "hmc", "nuts"]


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.run."""

    suite: Literal["samplers", "vae", "bnn", "bayesian_gan"] = "samplers"
    """The suite to run."""
    devices: int = 1
    """Number of devices over which the chains (samplers, bnn), the batch (vae) or the generators (bayesian_gan) are
    divided; on a CPU, JAX creates as many virtual devices. The suite vae also measures one device."""
    precision: machine.Precision = "default"
    """Precision of matrix products of float32 arrays; default is JAX's own for the device. On a CPU all are float32."""
    weights: tuple[int, ...] = WEIGHTS
    """Suite samplers: numbers of weights of the networks, at least 100. The network of 1000 has 973."""
    chains: tuple[int, ...] = CHAINS
    """Suite samplers: numbers of chains."""
    product: bool = False
    """Suite samplers: measure every pair of --weights and --chains, and not only those with the fewest weights or the
    fewest chains."""
    samplers: tuple[Name, ...] = ("sgd", "sgld", "sghmc", "sgnht", "hmc", "nuts")
    """Suite samplers: samplers of bayesjax and of the other libraries to measure. Suite bnn: samplers of bayesjax; it
    has no sgd."""
    kernel: tuple[str, ...] = ()
    """Suite samplers: samplers of your own, as MODULE:NAME of a benchmarks.suites.kernels.Sampler."""
    peers: bool = True
    """Suite samplers: measure BlackJAX, NumPyro and posteriors beside bayesjax, where they are installed, at the fewest
    weights and every second number of chains."""
    repeats: int = 5
    """Number of times that every row is measured."""
    seconds: float = 0.2
    """Approximate seconds of one measurement of a row; in the suite vae it takes at least an epoch."""
    step_seconds: float = 2.0
    """Suite samplers: largest projected seconds of a step; larger sizes are left out."""
    quality_seconds: float = 10.0
    """Suite samplers: seconds that each sampler runs for its effective draws and the error of its predictive; 0
    measures neither."""
    quality_chains: int = 16
    """Suite samplers: number of chains in these runs."""
    images: Literal["auto", "mnist", "digits"] = "auto"
    """Suite vae: images to train on. auto takes MNIST if it is prepared in TFDS_DATA_DIR, and otherwise scikit-learn's
    digits, enlarged to 28 x 28 pixels."""
    batch_sizes: tuple[int, ...] = (128, 512, 2048)
    """Suite vae: numbers of images in a minibatch."""
    generators: tuple[int, ...] = (1, 4, 16)
    """Suite bayesian_gan: numbers J of generators in a game."""
    mc_samples: tuple[int, ...] = (1, 4)
    """Suite bayesian_gan: numbers M of networks for each generator and discriminator of the game."""
    target_seconds: float = 240.0
    """Largest number of seconds until the stated quality: of training in the suites vae and bayesian_gan, where 0 does
    not measure it, and of all samplers together in the suite bnn."""
    threads: int = 2
    """Number of cores on a CPU."""
    out: str = ""
    """The JSON file to write; if empty, benchmarks/results/devices/SUITE-DEVICE.json."""


def file_name(suite: str, device: dict[str, Any]) -> str:
    """Name of the results file of a suite on a device, such as samplers-tpu-v5-lite-x8.json."""
    count = f" x{device['count']}" if device["count"] > 1 else ""
    precision = "" if device["precision"] == "default" else f" {device['precision']}"
    kind = re.sub(r"\((R|TM)\)|@.*", "", device["kind"], flags=re.IGNORECASE)
    return f"{suite}-{re.sub(r'[^a-z0-9]+', '-', (kind + count + precision).lower()).strip('-')}.json"


def check(config: Config) -> None:
    """Ends the program with one line and exit code 2 if a flag is invalid."""
    measure.require_at_least(config, 1, "devices", "repeats", "threads")
    SUITES[config.suite].check(config)


def main(config: Config) -> None:
    """Measures, prints the tables and writes the file."""
    check(config)
    started = time.perf_counter()
    if jax.config.values["jax_num_cpu_devices"] < config.devices:
        jax.config.update("jax_num_cpu_devices", config.devices)
    jax.config.update("jax_default_matmul_precision", machine.MATMUL_PRECISION[config.precision])
    load_average = measure.prepare(config, needs=())
    if config.devices > jax.local_device_count():
        measure.fail(f"--devices must be at most {jax.local_device_count()}, the number here; got {config.devices}")
    device = machine.description(config.devices, config.precision)
    out = config.out or str(FOLDER / file_name(config.suite, device))
    measure.make_folder(out)
    rates = machine.calibrate(config.devices)
    peak, source = machine.published_peak(device["platform"], device["kind"], config.precision)
    rows = SUITES[config.suite].run(config, rates)
    results = {
        "benchmark": "run",
        "suite": config.suite,
        "command": " ".join(["python", "-m", "benchmarks.run", *sys.argv[1:]]),
        "device": device,
        "rates": rates._asdict(),
        "published_peak": {"flops": peak, "source": source},
        "versions": provenance.versions("jax", "jaxlib", "flax", "numpy", *measure.installed("numpyro", "blackjax")),
        "commit": provenance.commit(),
        "load_average_at_start": load_average,
        "peak_device_mib": processes.device_peak_mib(),
        "seconds": round(time.perf_counter() - started, 1),
        "rows": rows,
    }
    measure.write(out, results)
    print(f"results in {os.path.relpath(out)}; python -m benchmarks.report makes the page of all devices")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
