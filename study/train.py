"""One step of the study: a network trained on every fold of every repeat, or on one of them."""

import argparse
import json
import sys
from pathlib import Path

from lib.storage import write_atomic
from lib.training.loop import TrainConfig
from lib.training.runs import run_name, run_or_load
from study.sources import CUSTOMERS, prepare
from study.variants import VARIANTS


def main() -> int:
    """Train one network; what is finished is loaded, and what was killed goes on after its last epoch."""
    parser = argparse.ArgumentParser(prog="python -m study.train", description=main.__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--repeats", type=int, nargs="+", default=[0], help="each seeds its folds and its trainings")
    parser.add_argument("--fold", type=int, help="which fold, from 0 (default: all)")
    parser.add_argument("--source", default="synthetic", help="synthetic, sberbank or a folder of events")
    parser.add_argument("--customers", type=int, default=CUSTOMERS, help="size of the synthetic set")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=TrainConfig.epochs)
    parser.add_argument("--fresh", action="store_true", help="train even where a finished run exists")
    parser.add_argument("--out", type=Path, required=True, help="where to list the runs, as JSON")
    options = parser.parse_args()
    variant, names = VARIANTS[options.variant], []
    histories = variant.seen(prepare(options.source, options.customers))
    configs = variant.configs(options.epochs)
    folds = range(options.folds) if options.fold is None else [options.fold]
    for repeat, fold in [(repeat, fold) for repeat in options.repeats for fold in folds]:
        run_or_load(histories, fold, options.folds, *configs, repeat, options.fresh)
        names.append(run_name(histories, fold, options.folds, *configs, repeat))
    write_atomic(options.out, json.dumps(names, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
