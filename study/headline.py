"""What a study answers in a minute: a headline figure of accuracy, time and memory, and a sentence about each."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.accuracy.verdict import accuracy_panel, accuracy_sentences, verdict
from study.report import mark_empty_panels, named_svg, use_style
from study.speed.figures import advantages, label_of, median_history, memory_panel, time_panel
from study.wording import listed

FAR = 4096
"""Events of a history at which the verdict compares times and memory."""
SAVES = 1.2
"""Times less memory from which on the verdict says that a mechanism saves some."""
PANELS = {
    "accuracy": (4.6, "ROC-AUC of the models, out of fold, with 95 % intervals"),
    "time": (3.9, "Time of one attention layer against length, with the lengths where it crosses fused softmax"),
    "memory": (3.9, "Peak memory of one attention layer against length"),
}
"""Width in inches and description of the headline figure's parts."""
HEIGHT = 3.3


def panels(rows: pd.DataFrame) -> dict[str, Callable[[Axes], None]]:
    """What draws each part of the headline figure."""
    return {
        "accuracy": lambda ax: accuracy_panel(ax, rows),
        "time": lambda ax: time_panel(ax, rows, history=median_history(rows)),
        "memory": lambda ax: memory_panel(ax, rows),
    }


def headline_figure(rows: pd.DataFrame) -> Figure:
    """The headline figure in one piece."""
    widths = [width for width, _ in PANELS.values()]
    fig, axes = plt.subplots(1, len(widths), figsize=(sum(widths), HEIGHT), width_ratios=widths)
    for ax, draw in zip(axes, panels(rows).values(), strict=True):
        draw(ax)
    mark_empty_panels(fig, "no rows")
    return fig


def headline_parts(rows: pd.DataFrame) -> list[str]:
    """The headline figure's parts as drawings, which a narrow page stacks; one without rows is left out."""
    drawings = []
    with plt.rc_context():
        use_style()
        for name, draw in panels(rows).items():
            width, about = PANELS[name]
            fig, ax = plt.subplots(figsize=(width, HEIGHT))
            draw(ax)
            if ax.has_data():
                svg = named_svg(fig, f"headline-{name}", about)
                drawings.append(svg[svg.index("<svg") :])
            plt.close(fig)
    return drawings


def rounded(value: float) -> str:
    """Two digits and thousands with a comma: 3.7, 12, 1,200."""
    return f"{float(f'{value:.2g}'):,g}"


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
    pays = layer[layer["crossing"].notna()]
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
    known = layer.dropna(subset=["memory_softmax"])
    if known.empty:
        return ""
    saving = known[known["memory_softmax"] >= SAVES]["memory_softmax"]
    savings = [f"{label_of(model)} takes {rounded(factor)} times less memory" for model, factor in saving.items()]
    fused = f"{listed(savings)} than fused softmax" if savings else "no mechanism saves memory against fused softmax"
    times = known["memory_explicit_softmax"].dropna().items()
    naive = [
        f"{rounded(factor)} times {'that' if place else 'the memory'} of {label_of(model)}"
        for place, (model, factor) in enumerate(times)
    ]
    return f"At {FAR:,} events {fused}{'; naive softmax takes ' if naive else ''}{listed(naive)}."
