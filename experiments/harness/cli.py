"""The command line of every experiment: flags, the types that validate them, and presets.

    @dataclass(frozen=True)
    class Config(RunConfig):
        kernel: Literal["adam", "sghmc"] = "adam"
        friction: Annotated[float, Range(above=0, below=1)] = 0.1

    PRESETS = {"quick": Config(), "paper": Config(kernel="sghmc")}

    if __name__ == "__main__":
        main(cli.parse(PRESETS, __doc__))

Every field is a flag, the string below it is the flag's help, and `--preset` chooses the defaults. The annotations are
checked whenever a configuration is made; `__post_init__` checks other conditions with `require`. Bad input ends the
program with one line on standard error and exit code 2.
"""

import contextlib
import dataclasses
import difflib
import io
import itertools
import math
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar

C = TypeVar("C", bound="RunConfig")
BAD_INPUT = 2
"""Exit code of a command that was given bad input."""


@dataclass(frozen=True)
class Range:
    """Bounds `least <= x <= most` and `above < x < below` of a number x, for annotations of fields."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        """Whether the value is finite and within the bounds."""
        return math.isfinite(value) and self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        """The bounds in words, such as "above 0 and below 1"."""
        bounds = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound)) or "finite"


class NonEmpty:
    """Annotation of a tuple that must not be empty, as in `Annotated[tuple[Count, ...], NonEmpty]`."""


class MayBeEmpty:
    """Annotation of a tuple of choices that may be empty; without it, tuples of `Literal` must not be empty."""


Count = Annotated[int, Range(least=1)]
Natural = Annotated[int, Range(least=0)]
Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(least=0)]


@dataclass(frozen=True)
class RunConfig:
    """Flags of every experiment."""

    preset: str = "quick"
    """Name of the preset that gives the other flags their defaults."""
    dataset: str = ""
    """Name of the data set."""
    data_dir: str = ""
    """Folder of the prepared TensorFlow Datasets; if empty, that of the environment variable TFDS_DATA_DIR."""
    seed: Natural = 0
    """Random seed of the data order, the networks and the noise."""
    fast_compile: bool = False
    """Compile programs with few optimisations, which takes about half as long; the steps may be slower. The quick
    presets do so."""
    checkpoint_interval: NonNegative = 60.0
    """Seconds between checkpoints; 0 saves after every compiled chunk of steps."""
    out: str = ""
    """Run folder; if empty, runs/NAME-PRESET-DATASET-seedS for experiment NAME and seed S."""
    resume: bool = False
    """Continue the run in --out from its checkpoints."""
    overwrite: bool = False
    """Delete the run in --out and start again."""
    publish: bool = False
    """Also write the results to experiments/results/NAME-PRESET-DATASET.json, to be committed."""
    devices: Count = 1
    """Number of devices that each process uses; on a CPU, JAX creates enough virtual devices."""
    processes: Natural = 1
    """Number of processes to start on this machine; 0 joins those that a pod or cluster has started, one per host."""
    parallel: Literal["shard_map", "pmap"] = "shard_map"
    """JAX transformation that spreads a step over the devices; pmap supports one process and one parallel axis."""
    data_devices: Natural = 0
    """Number of parts into which each batch is divided, a divisor of the number of devices; the quotient is the number
    of parts of the particles. 0 divides the particles into as many parts as possible, and then the batch."""

    def __post_init__(self) -> None:
        """Checks every field against its annotation.

        Raises:
          ValueError: if a value violates its annotation, or pmap is combined with several processes.
        """
        for name, annotation in typing.get_type_hints(type(self), include_extras=True).items():
            if expected := _violated(getattr(self, name), annotation):
                raise ValueError(f"{flag(name)} must be {expected}; got {getattr(self, name)!r}")
        require(
            self.parallel == "shard_map" or self.processes == 1,
            f"--parallel pmap supports one process; got --processes {self.processes}",
        )

    def identity(self) -> dict[str, Any]:
        """The fields that determine the result, as `{name: value}`."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in BOOKKEEPING}


BOOKKEEPING = {field.name for field in dataclasses.fields(RunConfig)} - {"preset", "dataset", "seed", "fast_compile"}
"""Fields for output, data folder and devices, which do not affect the result."""


def _violated(value: Any, annotation: Any) -> str:
    """The requirement of an annotation that a value violates, such as "at least 1"; empty if it satisfies all."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        kind, *extras = arguments
        for extra in extras:
            if isinstance(extra, Range) and isinstance(value, int | float) and value not in extra:
                return str(extra)
            if extra is NonEmpty and not value:
                return "a list with at least one element"
            if extra is MayBeEmpty and not value:
                return ""
        return _violated(value, kind)
    if origin is Literal:
        return "" if value in arguments else " or ".join(map(str, arguments))
    if origin is tuple:
        elements = [arguments[0]] * len(value) if arguments[1:] == (Ellipsis,) else arguments
        if typing.get_origin(arguments[0]) is Literal:
            unknown = any(each not in typing.get_args(arguments[0]) for each in value)
            if unknown or not value or len(set(value)) < len(value):
                return f"one or more of {', '.join(map(str, typing.get_args(arguments[0])))}, each at most once"
        problems = [_violated(each, kind) for each, kind in zip(value, elements, strict=True)]
        return next((f"a list of numbers that are {problem}" for problem in problems if problem), "")
    allowed = {float: (int, float)}.get(annotation, annotation)
    is_right = not isinstance(allowed, type | tuple) or isinstance(value, allowed)
    if not is_right or (isinstance(value, bool) and annotation in (int, float)):
        return f"of type {annotation.__name__}"
    return "finite" if isinstance(value, float) and not math.isfinite(value) else ""


def flag(name: str) -> str:
    """The flag of a field: `--num-steps` of `num_steps`."""
    return f"--{name.replace('_', '-')}"


def require(condition: bool, message: str) -> None:
    """Raises ValueError with `message` unless the condition holds; a run turns it into one line and exit code 2."""
    if not condition:
        raise ValueError(message)


def fail(message: str) -> NoReturn:
    """Prints one line on standard error and exits with code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(BAD_INPUT)


def parse(presets: dict[str, C], description: str | None, arguments: Sequence[str] | None = None) -> C:
    """Reads the command line into a configuration, and prepares the devices that it requests.

    Args:
      presets: configurations by name; the first is the default.
      description: text of --help, usually the module's docstring.
      arguments: replaces `sys.argv[1:]`; no devices are prepared if it is given.

    Raises:
      SystemExit: with code 2 if a flag is unknown or its value is invalid; with code 0 after --help.
    """
    import tyro

    own_command_line = arguments is None
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = next(iter(presets))
    for argument, following in itertools.pairwise([*arguments, ""]):
        given, equals, value = argument.partition("=")
        if given == "--preset":
            name = value if equals else following
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1)
        guess = f": did you mean {near[0]}?" if near else ""
        fail(f"--preset must be one of {', '.join(presets)}; got {name!r}{guess}")
    default = dataclasses.replace(presets[name], preset=name, fast_compile=name.startswith("quick"))
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            config = tyro.cli(type(default), default=default, description=description, args=arguments)
    except ValueError as error:
        fail(str(error))
    except SystemExit as error:
        if not error.code:
            raise
        fail(_first_paragraph(errors.getvalue()))
    changed = {name for name in default.identity() if getattr(config, name) != getattr(default, name)} - {"dataset"}
    if config.publish and changed:
        fail(f"--publish writes the results of a preset without changes: remove {flag(min(changed))}")
    if own_command_line:
        from experiments.harness import launch

        launch.prepare(config)
    return config


def _first_paragraph(box: str) -> str:
    """Converts the error message that tyro prints in a box, drawn with Unicode or ASCII, to one line."""
    lines = [line.strip("│| ") for line in box.splitlines()[1:]]
    is_rule = [not line.strip("─-╰╯+") for line in lines]
    start = is_rule.index(False)
    message = lines[start : is_rule.index(True, start)]
    near = [lines[at + 1] for at, line in enumerate(lines[:-1]) if line.startswith("Perhaps you meant")]
    guess = f": did you mean {near[0].split()[0]}?" if near else ""
    return " ".join(message).removeprefix("Error parsing Config: ") + guess
