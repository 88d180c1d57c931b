"""Sweeps over configurations: each in a fresh process, interleaved in rounds, results kept so that a run resumes.

Rounds go over all configurations in turn, shortest first, so that a machine that drifts drifts for all of them. A
configuration that would exceed its budget is a row too: `skipped_memory` (bytes) or `skipped_time` (seconds). Rows of
another machine live in a folder of their own under data/measurements, with the `hardware.json` that `--output` leaves
beside them.
"""

import argparse
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from lib.dependencies import code_hash, modules
from lib.storage import read_checksummed, write_atomic, write_checksummed
from study.speed import fresh_process, scaling, sweeps
from study.speed.fresh_process import Budget, measure_apart
from study.speed.hardware import LOCAL, hardware
from study.speed.memory import MIB
from study.speed.workload import Configuration

MEASURER = Path(fresh_process.__file__)
SETTINGS = [field.name for field in fields(Configuration)]
Rounds = dict[int, dict[str, float]]
Results = dict[Configuration, Rounds]


def fingerprint(device: str) -> str:
    """A hash of the hardware, of the code whose speed is measured and of the code that measures it."""
    code = code_hash([MEASURER, *modules(MEASURER)])
    return hashlib.sha256(json.dumps([hardware(device), code], sort_keys=True).encode()).hexdigest()


def kept_at(configuration: Configuration, block_seconds: float, machine: str, cache: Path) -> Path:
    """The file of a configuration's results: a readable name, then a hash of configuration, code and hardware."""
    facts = json.dumps([asdict(configuration), block_seconds, machine], sort_keys=True)
    parts = (configuration.mechanism, configuration.scope, configuration.direction, configuration.length)
    return cache / f"{'-'.join(map(str, parts))}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.csv"


def load_kept(path: Path) -> Rounds:
    """The rounds of earlier runs; none, and a line on stderr, where the file is damaged."""
    content = read_checksummed(path)
    if content is None:
        return {}
    table = pd.read_csv(io.BytesIO(content), dtype={"round": "int64", "metric": "str", "value": "float64"})
    return {int(number): dict(zip(of["metric"], of["value"], strict=True)) for number, of in table.groupby("round")}


def keep(path: Path, rounds: Rounds) -> None:
    """Store the rounds in one step: a killed run leaves the file as it was."""
    rows = [(number, metric, value) for number, metrics in rounds.items() for metric, value in metrics.items()]
    write_checksummed(path, pd.DataFrame(rows, columns=["round", "metric", "value"]).to_csv(index=False).encode())


def predictions(metric: str, configuration: Configuration, results: Results, order: int) -> list[float]:
    """What `metric` will be if it grows with a power of length, from every round of every shorter length measured."""
    return [
        metrics[metric] * (configuration.length / other.length) ** order
        for other, rounds in results.items()
        if other.length < configuration.length and replace(other, length=configuration.length) == configuration
        for metrics in rounds.values()
        if metric in metrics
    ]


def beyond_budget(configuration: Configuration, results: Results, budget: Budget) -> dict[str, float]:
    """The skip of a configuration that will not fit, judged by shorter ones and by its matrices; empty if it may.

    Other work on the machine makes calls slower, never faster: the least time predicted counts, so that one slow
    measurement does not rule out longer calls. Memory does not vary: the longest length predicts it best.
    """
    quadratic = configuration.mechanism.endswith("softmax")
    seconds = min(predictions("time_ms", configuration, results, 2 if quadratic else 1), default=0.0) / 1000
    needed = (predictions("peak_memory_mib", configuration, results, 1) or [0.0])[-1] * MIB
    if configuration.mechanism == "explicit_softmax":
        matrices = 2 if configuration.direction == "forward" else 3
        needed = max(needed, float(matrices * configuration.matrix_bytes))
    if needed > budget.memory_mib * MIB:
        return {"skipped_memory": needed}
    return {"skipped_time": seconds} if seconds > budget.seconds else {}


def measure_round(configuration: Configuration, first: bool, budget: Budget) -> dict[str, float]:
    """Metric to value: memory in the first round, time in every round; a skip alone where one of them failed."""
    metrics: dict[str, float] = {}
    for quantity in ("memory", "time") if first else ("time",):
        found = measure_apart(configuration, quantity, budget)
        if is_skip(found):
            return found
        metrics |= found
    return metrics


def is_skip(metrics: dict[str, float]) -> bool:
    """Whether the metrics say why there is no measurement."""
    return any(metric.startswith("skipped") for metric in metrics)


def measure(configurations: Iterable[Configuration], budget: Budget, cache: Path = LOCAL) -> pd.DataFrame:
    """One row per configuration, round and metric; rounds that earlier runs kept under `cache` are not measured again.

    What was not measured in any round has its skip as a row. Skips are not kept, because they depend on the budget, and
    one that was only predicted is judged again in every round, by what is known then.
    """
    ordered = sorted(dict.fromkeys(configurations), key=lambda configuration: configuration.length)
    machines = {device: fingerprint(device) for device in {configuration.device for configuration in ordered}}
    paths = {each: kept_at(each, budget.block_seconds, machines[each.device], cache) for each in ordered}
    results: Results = {each: load_kept(path) for each, path in paths.items()}
    skips: dict[Configuration, dict[str, float]] = {}
    failed: set[Configuration] = set()
    turns = [(number, each) for number in range(budget.rounds) for each in ordered]
    for number, each in tqdm(turns, desc="measuring", unit="process", disable=None, leave=False):
        rounds = results[each]
        if number in rounds or each in failed:
            continue
        found = beyond_budget(each, results, budget)
        if not found:
            found = measure_round(each, number < min(rounds, default=budget.rounds), budget)
            failed |= {each} if is_skip(found) else set()
        if is_skip(found):
            skips[each] = found
        else:
            rounds[number] = found
            keep(paths[each], rounds)
    used = {
        each: {number: results[each][number] for number in sorted(results[each]) if number < budget.rounds}
        for each in ordered
    }
    for device in machines:
        write_atomic(cache / f"hardware-{device}.json", json.dumps(hardware(device), indent=2) + "\n")
    return pd.DataFrame(
        [
            (*asdict(each).values(), number, metric, value)
            for each in ordered
            for number, metrics in (used[each] or {0: skips[each]}).items()
            for metric, value in metrics.items()
        ],
        columns=[*SETTINGS, "round", "metric", "value"],
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    command = argparse.ArgumentParser(prog="python -m study.speed.measure", description=__doc__, formatter_class=raw)
    choose = command.add_subparsers(dest="command", required=True)
    encoder = choose.add_parser("encoder", help="the source study's encoder at its lengths")
    encoder.add_argument("--lengths", type=int, nargs="+", default=list(range(256, 8193, 256)))
    layer = choose.add_parser("layer", help="one attention layer along length, as in the notebook")
    layer.add_argument("--lengths", type=int, nargs="+", default=[256 * 2**power for power in range(9)])
    agree = choose.add_parser("agree", help="whether the cross-overs of two runs agree within their intervals")
    agree.add_argument("runs", type=Path, nargs=2, help="rows that `layer` or `encoder` saved")
    for sweep in (encoder, layer):
        sweep.add_argument("--cache", type=Path, default=LOCAL, help="folder of kept results (default: %(default)s)")
        sweep.add_argument("--output", type=Path, help="where to save the rows (default: a file beside the kept ones)")
        sweep.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        sweep.add_argument("--threads", type=int, default=1, help="default %(default)s")
        sweep.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
        for field in fields(Budget):
            name = f"--{field.name.replace('_', '-')}"
            sweep.add_argument(name, type=field.type, default=field.default, help=f"default {field.default}")
    return command


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and save."""
    chosen = parser().parse_args(arguments)
    if chosen.command == "agree":
        first, second = (scaling.crossovers(pd.read_csv(path)) for path in chosen.runs)
        print(scaling.agreement(first, second).to_string(index=False))
        return
    budget = Budget(**{field.name: getattr(chosen, field.name) for field in fields(Budget)})
    grids = {"encoder": sweeps.source_encoders, "layer": sweeps.layers}
    machine = {"device": chosen.device, "threads": chosen.threads, "dtype": chosen.dtype}
    grid = [replace(each, **machine) for each in grids[chosen.command](chosen.lengths)]
    rows = measure(grid, budget, chosen.cache)
    output = chosen.output or chosen.cache / f"{chosen.command}.csv"
    write_atomic(output, rows.to_csv(index=False))
    write_atomic(output.with_name("hardware.json"), json.dumps(hardware(chosen.device), indent=2) + "\n")
    print(scaling.result_rows(rows, chosen.command).drop(columns=["experiment", "seed", "axis"]).to_string(index=False))
    print(f"saved {output}")


if __name__ == "__main__":
    main()
