"""The flags of every experiment, and how a command line becomes a configuration."""

import dataclasses
import difflib
import sys
from dataclasses import dataclass
from typing import Any, TypeVar

from experiments import devices
from experiments.requirements import fail

T = TypeVar("T", bound="RunFlags")
BOOKKEEPING = (  # not part of a result
    "out", "resume", "overwrite", "publish", "checkpoint_interval", "data_dir",
    *(field.name for field in dataclasses.fields(devices.DeviceFlags)),
)  # fmt: skip


@dataclass(frozen=True)
class RunFlags(devices.DeviceFlags):
    """Flags of every experiment."""

    preset: str = "quick"
    """Which defaults: quick, paper, or another of those above."""
    dataset: str = ""
    """A data set by name."""
    data_dir: str = ""
    """Where TensorFlow Datasets keeps prepared sets; TFDS_DATA_DIR if empty."""
    seed: int = 0
    """Seed of everything: data, networks, noise."""
    checkpoint_interval: float = 60.0
    """Seconds between checkpoints, at least 0; 0 saves after every chunk of steps."""
    out: str = ""
    """Folder of the run; runs/NAME-PRESET-DATASET-seedS if empty."""
    resume: bool = False
    """Go on from the checkpoints in --out."""
    overwrite: bool = False
    """Delete a run that is in --out."""
    publish: bool = False
    """Also write experiments/results/NAME-PRESET-DATASET.json, to be committed."""


def parse(presets: dict[str, T], description: str | None, arguments: list[str] | None = None) -> T:
    """Reads the command line into a configuration: `--preset` chooses the defaults, every field is a flag.

    It must be called before JAX loads, for --devices and --processes to make what they ask for.

    Args:
      presets: configurations (frozen dataclasses with the fields `preset`, `out`, `resume` ...) by name.
      description: the module's docstring, shown by --help.
      arguments: instead of `sys.argv[1:]`.
    """
    import tyro

    own_command_line = arguments is None
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = next(iter(presets))
    for i, argument in enumerate(arguments):
        if argument == "--preset" and i + 1 < len(arguments):
            name = arguments[i + 1]
        elif argument.startswith("--preset="):
            name = argument.partition("=")[2]
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1)
        fail(
            f"--preset must be one of {', '.join(presets)}; got {name!r}"
            + (f": did you mean {near[0]}?" if near else "")
        )
    default = presets[name]
    config = tyro.cli(type(default), default=default, description=description, args=arguments)
    changed = [
        field.name
        for field in dataclasses.fields(default)
        if field.name not in BOOKKEEPING and getattr(config, field.name) != getattr(default, field.name)
    ]
    if config.publish and set(changed) - {"dataset"}:
        flag = next(name for name in changed if name != "dataset").replace("_", "-")
        fail(f"--publish writes the results of a preset as it stands: take out --{flag}")
    if message := devices.error(config) or _interval_error(config.checkpoint_interval):
        fail(message)
    if own_command_line:
        sys.excepthook = _explain_interrupt
        devices.prepare(config)
    return config


def _explain_interrupt(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Ctrl-C before or after the run itself is a line, not the traceback of whatever import it met."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _interval_error(seconds: float) -> str:
    """What is wrong with --checkpoint-interval, in a line; empty if nothing is."""
    return "" if seconds >= 0 else f"--checkpoint-interval must be at least 0 seconds; got {seconds:g}"


if __name__ == "__main__":
    from experiments import common

    common.not_a_command()
