"""One attention layer along length on this machine, as in notebook 07, kept for other machines to compare with.

python -m study.speed data/measurements/NAME --device cuda
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from lib.storage import write_atomic
from study.speed.measure import DIRECTIONS, MODULES, Budget, Configuration, grid, hardware, measure


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and save the rows with the facts of the hardware beside them."""
    parser = argparse.ArgumentParser(prog="python -m study.speed", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to save layer.csv and hardware.json")
    parser.add_argument("--lengths", type=int, nargs="+", default=[256 * 2**power for power in range(9)])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    chosen = parser.parse_args(arguments)
    layer = Configuration("softmax", device=chosen.device)
    rows = measure(grid(layer, length=chosen.lengths, direction=DIRECTIONS, mechanism=MODULES), Budget())
    write_atomic(chosen.folder / "layer.csv", rows.to_csv(index=False))
    write_atomic(chosen.folder / "hardware.json", json.dumps(hardware(chosen.device), indent=2) + "\n")


if __name__ == "__main__":
    main()
