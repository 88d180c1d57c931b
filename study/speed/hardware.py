"""What a measurement was made on, and rows kept from other machines beside those of this one."""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import psutil
import torch

from lib.paths import MEASUREMENTS
from study.provenance import processor
from study.speed import scaling
from study.speed.workload import Configuration

LOCAL = MEASUREMENTS / "local"
# What may differ between machines whose rows are compared, and what varies within a sweep.
FREE = ("mechanism", "direction", "length", "device", "threads", "seed")


def hardware(device: str = "cpu") -> dict[str, object]:
    """What a measurement depends on besides code and configuration."""
    facts = {
        "processor": processor(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "torch": torch.__version__,
        "allocator": {name: text for name, text in sorted(os.environ.items()) if name.startswith("MALLOC_")},
    }
    return facts | ({"gpu": torch.cuda.get_device_name()} if device == "cuda" else {})


def other_hardware(folder: Path = MEASUREMENTS) -> dict[str, pd.DataFrame]:
    """Rows kept from other machines, by the name of their folder: every CSV and Parquet file beside a `hardware.json`.

    Raises FileNotFoundError for a `hardware.json` without rows.
    """
    found = {}
    for machine in sorted(path.parent for path in folder.glob("*/hardware.json") if path.parent.name != LOCAL.name):
        tables = [pd.read_csv(path) for path in sorted(machine.glob("*.csv"))]
        tables += [pd.read_parquet(path) for path in sorted(machine.glob("*.parquet"))]
        if not tables:
            raise FileNotFoundError(f"{machine}: a hardware.json without rows")
        found[machine.name] = pd.concat(tables, ignore_index=True)
    return found


def same_layer(machines: Mapping[str, pd.DataFrame], layer: Configuration) -> dict[str, pd.DataFrame]:
    """The rows of each machine that measured this very layer; machines that measured only others are left out."""
    settings = {name: value for name, value in asdict(layer).items() if name not in FREE}
    chosen = {name: rows[(rows[list(settings)] == pd.Series(settings)).all(axis=1)] for name, rows in machines.items()}
    return {name: rows for name, rows in chosen.items() if not rows.empty}


def crossovers_by_hardware(machines: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """In words, from which length on the model is faster than the other, or that it was not measured, by machine."""
    tables = [scaling.crossovers(rows).assign(machine=name) for name, rows in machines.items()]
    found = pd.concat(tables).pivot(index=["model", "against", "split"], columns="machine", values="faster")
    return found.reindex(columns=list(machines)).astype("object").fillna("not measured")


def times_by_hardware(machines: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Median milliseconds of a call; a column per machine, missing where a length was not measured or skipped."""
    parts = [rows[rows["metric"] == "time_ms"].assign(machine=name) for name, rows in machines.items()]
    keys = ["direction", "length", "mechanism"]
    table = pd.concat(parts).groupby([*keys, "machine"])["value"].median().unstack("machine")
    return table.reindex(columns=list(machines))
