"""`python -m experiments` lists every experiment with the first line of its description."""

import ast
from pathlib import Path

HELPERS = {
    "__init__",
    "__main__",
    "bayesian_gan_flags",
    "bayesian_gan_game",
    "common",
    "devices",
    "origin",
    "tables",
}


def main() -> None:
    """Prints a line for each experiment; reads the files, imports nothing."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in HELPERS:
            description = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
            print(f"python -m experiments.{path.stem:32} {description}")


if __name__ == "__main__":
    main()
