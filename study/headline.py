"""What a study answers in a minute: a headline figure of accuracy, time and memory, and a sentence about each."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd

from study.accuracy.verdict import accuracy_panel, accuracy_sentences, verdict
from study.report import mark_empty_panels, named_svg, use_style
from study.speed.figures import advantages, label_of, median_history, memory_panel, time_panel
from study.wording import listed

FAR = 4096  # events of a history at which the verdict compares times and memory
SAVES = 1.2  # times less memory from which on the verdict says that a mechanism saves some
HEIGHT = 3.3
PANELS = {  # of each part of the headline figure: width in inches, what draws it, description
    "accuracy": (4.6, accuracy_panel, "ROC-AUC of the models, out of fold, with 95 % intervals"),
    "time": (
        3.9,
        lambda ax, rows: time_panel(ax, rows, history=median_history(rows)),
        "Time of one attention layer against length, with the lengths where it crosses fused softmax",
    ),
    "memory": (3.9, memory_panel, "Peak memory of one attention layer against length"),
}


def headline(rows: pd.DataFrame, parts: Sequence[str], name: str, alt: str) -> str:
    """These parts of the headline figure side by side as one drawing; nothing where none has rows."""
    widths = [PANELS[part][0] for part in parts]
    with plt.rc_context():
        use_style()
        fig, axes = plt.subplots(1, len(parts), figsize=(sum(widths), HEIGHT), width_ratios=widths, squeeze=False)
        for ax, part in zip(axes[0], parts, strict=True):
            PANELS[part][1](ax, rows)
        measured = any(ax.has_data() for ax in axes[0])
        mark_empty_panels(fig, "no rows")
        svg = named_svg(fig, name, alt)
        plt.close(fig)
    return svg if measured else ""


def verdict_sentences(rows: pd.DataFrame, record: dict) -> dict[str, str]:
    """What the study answers about accuracy, speed and memory; what has no rows is said not to be measured."""
    accuracy, layer = verdict(rows), advantages(rows, length=FAR)
    told = {
        "Accuracy": "" if accuracy is None else " ".join(accuracy_sentences(accuracy)),
        "Speed": speed_sentence(layer, record["processor"]),
        "Memory": memory_sentence(layer),
    }
    return {name: sentence or "Not measured here." for name, sentence in told.items()}


def speed_sentence(layer: pd.DataFrame, processor: str) -> str:
    """From which length on the mechanisms are faster than fused softmax, and how much."""
    if layer.empty:
        return ""
    pays = layer.dropna(subset="crossing")
    start = f"One layer in inference on one CPU thread ({processor}): "
    if pays.empty:
        return f"{start}no mechanism is faster than fused softmax at any length measured."
    first, *others = [f"{label_of(model)}{{}} from about {rounded(x)}" for model, x in pays["crossing"].items()]
    told = listed([first.format(" is faster than fused softmax") + " events", *(each.format("") for each in others)])
    factors = [rounded(factor) for factor in pays["time_softmax"].dropna()]
    far = f"; at {FAR:,} events {'they are' if len(factors) > 1 else 'it is'} {listed(factors)} times faster"
    never = [label_of(model) for model in layer.index.difference(pays.index)]
    slower = f". {listed(never)} {'are' if len(never) > 1 else 'is'} faster at no length measured" if never else ""
    return f"{start}{told}{far if len(factors) == len(pays) else ''}{slower}."


def memory_sentence(layer: pd.DataFrame) -> str:
    """How many times less memory than fused and than naive softmax the mechanisms take."""
    known = layer.dropna(subset="memory_softmax")
    if known.empty:
        return ""
    saving = known.loc[known["memory_softmax"] >= SAVES, "memory_softmax"]
    savings = [f"{label_of(model)} takes {rounded(factor)} times less memory" for model, factor in saving.items()]
    fused = f"{listed(savings)} than fused softmax" if savings else "no mechanism saves memory against fused softmax"
    times = known["memory_explicit_softmax"].dropna().items()
    naive = [f"{rounded(factor)} times {{}} of {label_of(model)}" for model, factor in times]
    of_all = listed(naive).replace("{}", "the memory", 1).replace("{}", "that")
    return f"At {FAR:,} events {fused}{'; naive softmax takes ' if naive else ''}{of_all}."


def rounded(value: float) -> str:
    """Two digits and thousands with a comma: 3.7, 12, 1,200."""
    return f"{float(f'{value:.2g}'):,g}"
