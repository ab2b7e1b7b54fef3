"""What the experiments share: the command line, the run folder, the results file. No base class, no registry.

    config = common.parse(PRESETS, __doc__)             # --preset picks the defaults, every field is a flag
    with common.Experiment("name", config) as run:      # the folder; bad input becomes one line
        ...  training.run(..., **run.stage("warm-up"))  # progress, metrics, checkpoints
        print(tables.render(run.finish(metrics)))       # results.json, and its table

Exit codes: 0 done; 2 bad input, in one line; 130 interrupted (resume with --resume).
"""

import dataclasses
import difflib
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

T = TypeVar("T", bound="RunFlags")
BOOKKEEPING = ("out", "resume", "overwrite", "publish", "checkpoint_interval", "data_dir")  # not part of a result
OWN_ENTRIES = (
    "config.json", "commits.txt", "seconds.txt", "metrics.jsonl", "results.json", "figures", "parts", "checkpoints",
)  # fmt: skip
ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class RunFlags:
    """Flags of every experiment."""

    preset: str = "quick"
    """Which defaults: quick or paper."""
    dataset: str = ""
    """A data set by name."""
    data_dir: str = ""
    """Where TensorFlow Datasets keeps prepared sets; TFDS_DATA_DIR if empty."""
    seed: int = 0
    """Seed of everything: data, networks, noise."""
    checkpoint_interval: float = 60.0
    """Seconds between checkpoints."""
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

    Args:
      presets: configurations (frozen dataclasses with the fields `preset`, `out`, `resume` ...) by name.
      description: the module's docstring, shown by --help.
      arguments: instead of `sys.argv[1:]`.
    """
    import tyro

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
    return config


def fail(message: str) -> NoReturn:
    """One clear line on standard error, exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def require(condition: bool, message: str) -> None:
    """Raises ValueError with `message` unless the condition holds; `Experiment` turns that into one line."""
    if not condition:
        raise ValueError(message)


def require_positive(config: Any, *names: str) -> None:
    """Raises ValueError for the first of these settings that is not positive."""
    for name in names:
        value = getattr(config, name)
        require(value > 0, f"--{name.replace('_', '-')} must be positive; got {value}")


def require_all_positive(config: Any, *names: str) -> None:
    """Raises ValueError for the first of these lists that is empty or holds a number that is not positive."""
    for name in names:
        values = getattr(config, name)
        require(
            len(values) > 0 and min(values) > 0, f"--{name.replace('_', '-')} must be positive numbers; got {values}"
        )


def require_at_least_one(config: Any, *names: str) -> None:
    """Raises ValueError for the first of these counts that is less than 1."""
    for name in names:
        value = getattr(config, name)
        require(value >= 1, f"--{name.replace('_', '-')} must be at least 1; got {value}")


def require_choice(config: Any, name: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless this setting is one of the choices."""
    given = getattr(config, name)
    require(given in choices, f"--{name.replace('_', '-')} must be {' or '.join(choices)}; got {given!r}")


class Experiment:
    """A run's folder, from its configuration to its results; bad input leaves it as one clear line.

    Nothing is written or deleted before the first stage or part: what is wrong with the flags or the data shows first.

    Attributes:
      out: the folder: config.json, metrics.jsonl, results.json, figures/, parts/, checkpoints/.
    """

    def __init__(self, name: str, config: Any):
        self.name, self.config = name, config
        self.out = Path(config.out or f"runs/{name}-{config.preset}-{slug(config.dataset)}-seed{config.seed}")
        self.started, self.commit = time.time(), commit()
        self._is_open = False
        self._replaces = config.overwrite and not config.resume
        self._recorded_config = {"experiment": name, **self.identity()}

    def __enter__(self) -> "Experiment":
        """Refuses a folder that holds something else than this run or nothing."""
        saved = self.out / "config.json"
        try:
            was = json.loads(saved.read_text()) if saved.exists() else None
        except (OSError, ValueError) as error:
            fail(f"cannot read {saved}: {error}")
        written = [name for name in OWN_ENTRIES if (self.out / name).exists()]
        if self._replaces:
            if was is not None and was.get("experiment") != self.name:
                fail(f"--overwrite: {saved} is not of experiments.{self.name}: choose another --out")
        elif was is None and written:
            fail(f"{self.out} holds {written[0]} without a config.json: choose another --out, or --overwrite it")
        elif was is not None and not self.config.resume:
            fail(f"{self.out} already holds a run: add --resume to go on, --overwrite to replace it, or an --out")
        elif was is not None and was != self._recorded_config:
            from bayesjax.training.checkpoint import first_difference

            difference = first_difference(was, self._recorded_config)
            fail(f"--resume: {self.out} holds a run of another configuration: {difference}")
        return self

    def open(self) -> None:
        """Makes the folder, once; empties it of the run that --overwrite replaces."""
        if self._is_open:
            return
        try:
            if self._replaces:
                for name in OWN_ENTRIES:
                    path = self.out / name
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink(missing_ok=True)
            for folder in ("figures", "parts"):
                (self.out / folder).mkdir(parents=True, exist_ok=True)
            write_json(self.out / "config.json", self._recorded_config)
            with (self.out / "commits.txt").open("a") as file:
                file.write(self.commit + "\n")
        except OSError as error:
            fail(f"cannot write to --out {self.out}: {error.strerror or error}")
        self._is_open = True

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> None:
        """Turns what a user can cause into one line and an exit code."""
        from bayesjax import data

        if self._is_open:
            with (self.out / "seconds.txt").open("a") as file:
                file.write(f"{time.time() - self.started:.1f}\n")
        if isinstance(error, KeyboardInterrupt):
            print(f"interrupted: add --resume to go on in {self.out}", file=sys.stderr)
            raise SystemExit(130)
        if isinstance(error, (ValueError, OSError, FloatingPointError, data.DataUnavailable)):
            fail(" ".join(str(error).split()))

    def identity(self) -> dict:
        """The configuration less what does not change the result."""
        config = json.loads(json.dumps(dataclasses.asdict(self.config)))
        return {key: value for key, value in config.items() if key not in BOOKKEEPING}

    def stage(self, name: str) -> dict:
        """The arguments of `training.run` that make a stage of this experiment visible, recorded and resumable."""
        from bayesjax import training

        self.open()
        return {
            "checkpointer": training.Checkpointer(
                self.out / "checkpoints" / name, config=self.identity(), interval=self.config.checkpoint_interval
            ),
            "metrics": training.MetricsFile(self.out / "metrics.jsonl", name),
            "label": name,
        }

    def cached(self, name: str, compute: Callable[[], dict]) -> dict:
        """The JSON result of a finished part, computed once: what a resumed run need not do again."""
        self.open()
        path = self.out / "parts" / f"{name}.json"
        if not path.exists():
            value = compute()
            write_json(path, value)
        return json.loads(path.read_text())

    def finish(self, metrics: dict[str, dict]) -> Path:
        """Writes results.json; with --publish, also to experiments/results/NAME-PRESET-DATASET.json.

        Args:
          metrics: `{name: {"value": ..., "stderr": ..., "paper": ..., "source": ...}}`; a number that is not finite is
            written as null.
        """
        commits = list(dict.fromkeys((self.out / "commits.txt").read_text().split()))
        before = self.out / "seconds.txt"  # of the runs that this one resumes
        earlier = sum(map(float, before.read_text().split())) if before.exists() else 0.0
        finite = {name: {key: _finite(value) for key, value in entry.items()} for name, entry in metrics.items()}
        results = {
            "experiment": self.name,
            "command": " ".join(["python", "-m", f"experiments.{self.name}", *_without_folder(sys.argv[1:])]),
            "config": self.identity(),
            "metrics": finite,
            "seconds": round(earlier + time.time() - self.started, 1),
            "device": device_name(),
            "versions": versions("jax", "jaxlib", "flax", "optax", "numpy"),
            "commit": ", ".join(commits),
        }
        write_json(self.out / "results.json", results)
        if self.config.publish:
            write_json(RESULTS / f"{self.name}-{self.config.preset}-{slug(self.config.dataset)}.json", results)
        return self.out / "results.json"


def _without_folder(arguments: list[str]) -> list[str]:
    """The command line less what says where, or whether again: nobody needs it to make the same results."""
    kept, skip = [], False
    for argument in arguments:
        if not skip and not argument.startswith(("--out", "--resume", "--overwrite")):
            kept.append(argument)
        skip = argument == "--out"
    return kept


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, list):
        return [_finite(element) for element in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    temporary.replace(path)


def slug(name: str) -> str:
    """A data set's name as part of a file name."""
    return Path(name).stem if name.endswith(".npz") else name.replace("/", "_").replace(":", "_")


def device_name() -> str:
    """Kind and number of devices, e.g. "cpu x 1 (2 cores)"."""
    import os

    import jax

    device = jax.devices()[0]
    cores = f" ({len(os.sched_getaffinity(0))} cores)" if device.platform == "cpu" else ""
    return f"{device.device_kind} x {jax.device_count()}{cores}"


def processor() -> str:
    """The processor's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def versions(*packages: str) -> dict[str, str]:
    """Installed versions by package."""
    from importlib.metadata import version

    return {package: version(package) for package in packages}


def commit() -> str:
    """The commit of the working tree, with "+changes" if it has uncommitted ones; "unknown" outside git."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "bayesjax", "experiments/*.py", "benchmarks/*.py"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def table(rows: list[list[str]], header: list[str]) -> str:
    """A Markdown table."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    line = lambda cells: "| " + " | ".join(str(c).ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"  # noqa: E731
    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)])
