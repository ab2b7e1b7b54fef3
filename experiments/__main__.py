"""`python -m experiments` lists every experiment with the first line of its description."""

from experiments.harness import report

if __name__ == "__main__":
    for name, description in report.experiments().items():
        print(f"python -m experiments.{name:32} {description}")
