"""Data, time and memory beyond the machines measured, computed from a saved report: the tables of docs/scaling.md.

python -m lib.extrapolation reports/sberbank_sample
"""

import argparse
import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from jaxtyping import Float

from lib import synthetic
from lib.events.description import describe
from lib.events.histories import read
from lib.paths import ROOT
from lib.presentation import report
from lib.speed import scaling
from lib.speed.streaming import SETTLED
from lib.storage import write_whole
from lib.training.loop import TrainConfig
from workflow.readme import with_answers

START = "<!-- made by `python -m lib.extrapolation`, do not edit -->"
PAGE = ROOT / "docs" / "scaling.md"
CUSTOMERS = (10**5, 10**6, 10**8)
LENGTH = 10**6  # events of the long history
SORTED = 3 * 8  # bytes per event of the times, keys and places that are held at once while `histories.encode` sorts
SECONDS = {"years": 365.25 * 86400, "days": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6}
BYTES = {"PiB": 2.0**50, "TiB": 2.0**40, "GiB": 2.0**30, "MiB": 2.0**20, "KiB": 2.0**10, "B": 1.0}
Estimate = Float[np.ndarray, "3"]  # a value, then the lower and the upper end of its range
Lines = list[dict[str, str]]  # of a table: cells by column


def estimate(values: pd.Series, name: str) -> Estimate:
    """A saved value with its `_low` and `_high`, or with no range where none is saved."""
    return np.array([values.get(f"{name}{end}", values[name]) for end in ("", "_low", "_high")])


def two_digits(value: float) -> str:
    """A number with two significant digits."""
    return report.shown(float(f"{value:.2g}"))


def said(value: Estimate | float, units: dict[str, float] | None = None) -> str:
    """The value, with its range where two digits show one, in the largest unit of which it is at least one."""
    values, known = np.broadcast_to(value, 3), [*(units or {"": 1.0}).items()]
    name, size = next((each for each in known if values[0] >= each[1]), known[-1])
    middle, low, high = map(two_digits, values / size)
    return f"{middle}{f' ({low} to {high})' if low != high else ''} {name}".strip()


def markdown_table(lines: Lines) -> str:
    """The table in Markdown."""
    rows = [list(lines[0]), ["---"] * len(lines[0]), *(list(line.values()) for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def event_bytes() -> tuple[float, float]:
    """Bytes of an event in the bank's format, as text and in the encoded arrays, from a few generated customers."""
    with TemporaryDirectory() as name:
        synthetic.generate(Path(name), customers=50, seed=0)
        histories = read(Path(name))
        text = len(gzip.decompress((Path(name) / describe(Path(name)).events).read_bytes()))
    arrays = sum(array.nbytes for array in (histories.categories, histories.numbers, histories.days))
    return text / len(histories.days), arrays / len(histories.days)


def labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the mechanisms themselves, by their labels, ordered from the steepest; variants are left out."""
    labels = {model: report.MODEL_STYLE[model]["label"] for model in scaling.ORDER}
    return rows.assign(model=pd.Categorical(rows["model"].map(labels), labels.values())).dropna(subset="model")


def speeds(rows: pd.DataFrame) -> dict[str, Estimate]:
    """Real events per second in training, by mechanism: the median epoch, the slowest and the fastest."""
    found = rows.query("axis == 'epoch_profile' and metric == 'events_per_second'")
    table = found.groupby("model", observed=True)["value"].agg(["median", "min", "max"])
    return dict(zip(table.index, table.to_numpy(), strict=True))


def volumes(history: float, text: float, arrays: float, memory: float) -> Lines:
    """What is stored and sorted at each number of customers; the last line is for long histories."""
    lines = []
    for customers, length in [*((each, history) for each in CUSTOMERS), (CUSTOMERS[0], float(LENGTH))]:
        events = customers * length
        line = {"customers": f"{customers:,}", "events each": two_digits(length), "events": two_digits(events)}
        sizes = {"text": text, "encoded": arrays, "sorting, at least": SORTED}
        line |= {name: said(events * size, BYTES) for name, size in sizes.items()}
        lines.append(line | {"encoded, in memories of one machine": two_digits(events * arrays / memory)})
    return lines


def trainings(rows: pd.DataFrame, each: float, parameters: dict) -> Lines:
    """Time of training on one core, linear in customers, and the memory that it takes beside the histories."""
    memory = rows.query("axis == 'final' and metric == 'peak_memory_mib'").set_index("model")["value"]
    epochs, whole = parameters["epochs"], parameters["repeats"] * (parameters["folds"] - 1)
    lines = []
    for model, speed in speeds(rows).items():
        for customers in CUSTOMERS:
            epoch = customers * each / speed[[0, 2, 1]]
            line = {"mechanism": model, "customers": f"{customers:,}"}
            line |= {"an epoch": said(epoch, SECONDS), f"{epochs} epochs": said(epoch * epochs, SECONDS)}
            line["the cross-validation"] = said(epoch * epochs * whole, SECONDS)
            lines.append(line | {"memory beside the histories": said(memory[model] * BYTES["MiB"], BYTES)})
    return lines


def limits(rows: pd.DataFrame, history: float, each: float, arrays: float, memory: float) -> Lines:
    """How many customers one machine like the measured one takes before each thing ends; the first to end first."""
    found = {"the events are sorted in memory": np.full(3, memory / history / SORTED)}
    found["the encoded histories stay in memory"] = np.full(3, memory / history / arrays)
    for model, speed in speeds(rows).items():
        found[f"an epoch of {model} takes a day, one core"] = speed * SECONDS["days"] / each
    ordered = sorted(found.items(), key=lambda item: item[1][0])
    return [{"as long as": name, "customers, at most": said(value)} for name, value in ordered]


def layers(rows: pd.DataFrame) -> Lines:
    """One attention layer over one long history, from the longest one measured by the fitted power, at least linear."""
    lines = []
    for (model, split), part in rows[rows["task"] == "attention"].groupby(["model", "split"], observed=True):
        growth = part[part["axis"] == "growth"].set_index("metric")["value"]
        table = part[part["axis"] == "length"].pivot(index="x", columns="metric", values="value")
        line = {"mechanism": model, "call": split, "measured to": f"{table.index.max():,.0f}"}
        for metric, unit, units in (("time_ms", "ms", SECONDS), ("peak_memory_mib", "MiB", BYTES)):
            last, power = table.dropna(subset=metric).iloc[-1], estimate(growth, f"{metric}_exponent")
            value = estimate(last, metric) * units[unit] * (LENGTH / float(last.name)) ** np.maximum(power, 1)
            name = metric.rsplit("_", 1)[0].replace("_", " ")
            line |= {f"power of {name}": said(power), name: said(value, units)}
            if units is SECONDS:
                line[f"{CUSTOMERS[0]:,} such calls, one core"] = said(value * CUSTOMERS[0], units)
        lines.append(line)
    return lines


def streams(rows: pd.DataFrame) -> Lines:
    """One attention layer fed segment by segment: the last event of a long history, all of it, and what is carried on.

    A mark's time belongs to the middle of the events since the mark before, and does not fall along the stream; with
    t ∝ n^p all n events take n t(n) / (1 + p). What is carried on is constant or, once grown, proportional to n.
    """
    lines = []
    for model, part in rows[rows["task"] == "stream"].groupby("model", observed=True):
        table = part.pivot(index="x", columns="metric", values="value")
        ends, kept = table.index.to_numpy(), table["state_kib"]
        middles = (ends + np.append(0, ends[:-1])) / 2
        facts = {"metric": "time_ms", "mechanism": model, "direction": "forward"}  # a slope has no unit
        times = pd.DataFrame({"length": middles, "value": table["event_us"], **facts})
        power = scaling.exponents(times, int(SETTLED * ends[0]))[["exponent", "low", "high"]].to_numpy()[0]
        rise = np.maximum(power, 0)
        event = estimate(table.iloc[-1], "event_us") * SECONDS["µs"] * (LENGTH / middles[-1]) ** rise
        state = kept.iloc[-1] * BYTES["KiB"] * (LENGTH / ends[-1] if kept.iloc[-1] > kept.iloc[0] else 1)
        line = {"mechanism": model, "measured to": f"{ends[-1]:,.0f}", "power of an event's time": said(power)}
        whole = LENGTH * event / (1 + rise)
        line |= {f"event {LENGTH:,}": said(event, SECONDS), "all events": said(whole, SECONDS)}
        lines.append(line | {"carried on": said(state, BYTES)})
    return lines


def tables(study: Path) -> str:
    """All tables as Markdown. Raises OSError, KeyError or ValueError where the report lacks what they need."""
    rows = labelled(report.load_rows(study.name, ["07_speed_and_memory", "08_comparison"], reports=study.parent))
    record, config = json.loads((study / "provenance.json").read_text(encoding="utf-8")), TrainConfig()
    data, parameters, memory = record["data"], record["parameters"], record["memory_gib"] * BYTES["GiB"]
    history, (text, arrays) = data["events"] / data["customers"], event_bytes()
    each = min(history, config.max_events) * (1 + config.shortest_slice) / 2
    made = (
        f"From the report `{study.name}` (profile {parameters['profile']}, commit {record['commit'][:10]}), measured on"
        f" {record['processor']} ({record['instructions']}), {record['cores']} cores, {record['memory_gib']} GiB of"
        f" memory, threads: {record['threads']}; {data['customers']:,} customers with {two_digits(history)} events on"
        f" average. An event takes {two_digits(text)} bytes as text, {two_digits(arrays)} encoded; an epoch reads at"
        f" most {two_digits(each)} events of a customer. Two digits, ranges in brackets."
    )
    titles = {
        "Data": volumes(history, text, arrays, memory),
        "Training, by customers": trainings(rows, each, parameters),
        "Where one such machine ends": limits(rows, history, each, arrays, memory),
        f"One attention layer over {LENGTH:,} events at once": layers(rows),
        f"The same layer fed {LENGTH:,} events as a stream": streams(rows),
    }
    if missing := [title for title, lines in titles.items() if not lines]:
        raise ValueError(f"{study} has no rows for: {', '.join(missing)}")
    return "\n\n".join([made, *(f"### {title}\n\n{markdown_table(lines)}" for title, lines in titles.items())])


def main(arguments: list[str] | None = None, page: Path = PAGE) -> None:
    """Write the tables of docs/scaling.md; exit status 1 with one line when the report lacks what they need."""
    parser = argparse.ArgumentParser(prog="python -m lib.extrapolation", description=main.__doc__)
    parser.add_argument("report", type=Path, help="a finished report's folder, such as reports/sberbank_sample")
    try:
        made = tables(parser.parse_args(arguments).report)
        write_whole(page, with_answers(page.read_text(encoding="utf-8"), made, START))
    except (OSError, ValueError, KeyError) as error:
        parser.exit(1, f"NO TABLES: {error}\n")


if __name__ == "__main__":
    main()
