"""`python -m experiments` lists every experiment with the first line of its description."""

import ast
from pathlib import Path


def main() -> None:
    """Prints a line for each experiment; reads the files, imports nothing."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        module = ast.parse(path.read_text())
        if any(_reads_flags(statement) for statement in module.body):
            description = (ast.get_docstring(module) or "").partition("\n")[0]
            print(f"python -m experiments.{path.stem:32} {description}")


def _reads_flags(statement: ast.stmt) -> bool:
    """Whether it is the `CONFIG = common.parse(...)` that every experiment begins with, and no helper."""
    targets = [target for node in ast.walk(statement) if isinstance(node, ast.Assign) for target in node.targets]
    return isinstance(statement, ast.If) and any(isinstance(each, ast.Name) and each.id == "CONFIG" for each in targets)


if __name__ == "__main__":
    main()
