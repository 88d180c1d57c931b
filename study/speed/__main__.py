"""One attention layer along length on this machine, as in notebook 07, kept for other machines to compare with.

python -m study.speed data/measurements/NAME --device cuda
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from lib.storage import write_atomic
from study.speed.measure import Budget, hardware, measure
from study.speed.workload import DIRECTIONS, MODULES, Configuration, grid


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and save the rows with the facts of the hardware beside them."""
    parser = argparse.ArgumentParser(prog="python -m study.speed", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to save layer.csv and hardware.json")
    parser.add_argument("--lengths", type=int, nargs="+", default=[256 * 2**power for power in range(9)])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    for field in fields(Budget):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type, default=field.default)
    chosen = parser.parse_args(arguments)
    budget = Budget(**{field.name: getattr(chosen, field.name) for field in fields(Budget)})
    layer = Configuration("softmax", device=chosen.device, threads=chosen.threads)
    rows = measure(grid(layer, length=chosen.lengths, direction=DIRECTIONS, mechanism=MODULES), budget)
    write_atomic(chosen.folder / "layer.csv", rows.to_csv(index=False))
    write_atomic(chosen.folder / "hardware.json", json.dumps(hardware(chosen.device), indent=2) + "\n")
    print(chosen.folder / "layer.csv")


if __name__ == "__main__":
    main()
