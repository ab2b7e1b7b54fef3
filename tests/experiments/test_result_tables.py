"""Tables are pivots of rows: lines and columns by keys, dashes where nothing was measured, one number in a cell."""

import subprocess
import sys
from pathlib import Path

import pytest

from docs import tables as overview
from experiments.harness import Column, Table, report, row

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {"kernel": "adam", "num_draws": 5}


def lines(table, rows, config=CONFIG):
    """The cells of each line of a table."""
    text = report.pivot(table, [(each, config) for each in rows])
    assert len({len(line) for line in text.splitlines()}) <= 1, "aligned"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


ROWS = [
    row("error %", 1.234, 0.05, method="hmc", labels=20, paper=1.5, source="table 1"),
    row("nll", 0.1, method="hmc", labels=20),
    row("error %", 2.0, method="map", labels=20),
    row("error %", 3.0, method="map", labels=50),
]


def test_measures_across():
    """A line for each combination of keys; a key that rows lack comes from the configuration."""
    table = Table(
        {"kernel": "kernel", "labels": "labels", "method": "method"},
        [Column("error %"), Column("error %", "published", field="paper"), Column("nll", digits=3), Column("absent")],
    )
    assert lines(table, ROWS) == [
        ["kernel", "labels", "method", "error %", "published", "nll"],
        ["------", "------", "------", "-----------", "---------", "-----"],
        ["adam", "20", "hmc", "1.23 ± 0.05", "1.5", "0.100"],
        ["adam", "20", "map", "2.00", "-", "-"],
        ["adam", "50", "map", "3.00", "-", "-"],
    ]


def test_keys_across():
    """Every value of a key has columns of its own; without columns the measures are lines."""
    table = Table({"method": ""}, [Column("error %", "%", 1)], across="labels")
    assert lines(table, ROWS)[0] == ["", "20 %", "50 %"] and lines(table, ROWS)[3] == ["map", "2.0", "3.0"]
    table = Table({"measure": ""}, across="method", digits={"error %": 1}, where={"labels": 20})
    assert lines(table, ROWS) == [
        ["", "hmc", "map"], ["-------", "---------", "---"], ["error %", "1.2 ± 0.1", "2.0"], ["nll", "0.100", "-"],
    ]  # fmt: skip


def test_rows_are_chosen_by_keys():
    """None asks for rows without the key, a tuple for any of its values; a column may ask for more."""
    rows = [row("fid", 1.0), row("fid", 2.0, stage="before"), row("fid", 3.0, stage="after")]
    table = Table({}, [Column("fid", "plain", where={"stage": None}), Column("fid", "last", where={"stage": "after"})])
    assert lines(table, rows)[2] == ["1.00", "3.00"]
    assert lines(Table({"stage": ""}, [Column("fid")], where={"stage": ("before", "after")}), rows)[2] == [
        "before",
        "2.00",
    ]
    assert report.pivot(Table({}, [Column("fid")], where={"stage": "never"}), [(rows[0], {})]) == ""


def test_two_numbers_in_one_cell():
    """A specification that does not tell rows apart is an error, not a choice."""
    with pytest.raises(ValueError, match="two rows belong in line"):
        report.pivot(Table({"method": ""}, [Column("error %")]), [(each, {}) for each in ROWS])


@pytest.mark.parametrize(
    ("entry", "digits", "expected"),
    [
        ({"value": 1.25}, 1, "1.2"),
        ({"value": 1.25, "stderr": 0.5}, 2, "1.25 ± 0.50"),
        ({"value": 0.000123456}, ".3g", "0.000123"),
        ({"value": 12}, 0, "12"),
        ({"value": None}, 2, "-"),
        ({"value": float("nan")}, 2, "-"),
        ({"value": "rate 0.5"}, 2, "rate 0.5"),
    ],
)
def test_numbers(entry, digits, expected):
    """Decimals or a format; the standard error in the same; a dash for what is not finite."""
    assert report.number(entry, digits) == expected


def test_notes_and_origins():
    """A note may depend on the configuration; equal notes of several runs stand once; each run's origin is named."""
    run = {"config": CONFIG, "rows": ROWS, "command": "python -m experiments.x", "seconds": 90.0,
           "device": "cpu x 1 (1 cores)", "commit": "abc"}  # fmt: skip
    other = run | {"seconds": 600.0, "rows": [], "config": {"kernel": "sghmc", "num_draws": 5}}
    table = Table(
        {"kernel": "", "method": "", "labels": ""}, [Column("error %")], note=lambda c: f"{c['num_draws']} draws."
    )
    text = report.render([table], [run, other])
    assert text.count("5 draws.") == 1
    *_, first, last = text.split("\n\n")
    assert first == "`python -m experiments.x`: 90 s on 1 CPU device (1 core), commit abc"
    assert last == "`python -m experiments.x`: 10 min on 1 CPU device (1 core), commit abc"


@pytest.mark.parametrize(
    ("device", "commit", "expected"),
    [
        ("cpu x 1 (2 cores)", "abc", "run on 1 CPU device (2 cores), commit abc"),
        ("cpu x 11 (2 cores)", "abc", "run on 11 CPU devices (2 cores), commit abc"),
        ("NVIDIA H200 x 1", "abc+changes", "run on 1 NVIDIA H200, commit abc with uncommitted changes"),
        (
            "cpu x 4 on 2 processes (2 cores), cpu x 1 (1 cores)",
            "abc",
            "run in several sessions, on 4 CPU devices on 2 processes (2 cores) and 1 CPU device (1 core), commit abc",
        ),
        ("TPU v4 x 8", "a, b, c", "run in several sessions, on 8 TPU v4, commits a, b and c"),
    ],
)
def test_devices_and_commits_in_words(device, commit, expected):
    """One device or commit, and the lists of a run that was resumed on other devices or at other commits."""
    assert report.origin({"command": "x", "device": device, "commit": commit}) == f"`x`: {expected}"


def test_a_table_that_is_out_of_date_is_noticed(tmp_path):
    """A changed number, and results that do not exist."""
    name = "gan_theory-paper-synthetic_normal"
    good = overview.updated(f"<!-- results: {name} -->\n<!-- end -->\n", tmp_path / "page.md")
    assert "-1.3864" in good and overview.updated(good, tmp_path / "page.md") == good
    assert overview.updated(good.replace("-1.3864", "-1.3865"), tmp_path / "page.md") == good
    with pytest.raises(FileNotFoundError, match=r"no results file is called .*nowhere.json"):
        overview.updated("<!-- results: nowhere -->\n<!-- end -->", tmp_path / "page.md")


def test_the_list_of_experiments():
    """`python -m experiments` has a line for each experiment; the generator of tables refuses an unknown flag."""
    done = subprocess.run([sys.executable, "-m", "experiments"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = done.stdout.splitlines()
    assert len(listed) >= 25
    assert all(line.startswith("python -m experiments.") and len(line.split()) > 4 for line in listed)
    with pytest.raises(SystemExit, match="takes --check or nothing; got --write"):
        overview.main(["--write"])
