"""Figures with controls: moving one redraws the figure in its place.

The first drawing belongs to the report; controls need a live kernel, so pages leave them out.
"""

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import Dropdown, SelectionSlider, ValueWidget, VBox
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import norm
from torch import Tensor

from lib.attention.infinite_former import MemorySettings
from lib.data.histories import Histories
from lib.training.runs import Run
from study import figures, insight
from study.kernel import figures as kernel_figures
from study.kernel.closed_forms import error_map
from study.memory import reconstruction
from study.memory.reconstruction import reconstruction_matrix
from study.memory.retention import COLOURS, retention_rows
from study.report import MODEL_STYLE, ShownFigure

SURFACES = ("trigonometric", "positive", "hyperbolic")
AGES = 24  # segments
ATTENTION_EVENTS = 256  # the last of a history
ERROR_LEVELS = (-1.0, 0.0)
"""log₁₀ of the errors that get a line: one in ten, and as large as the kernel itself."""


def kernel_surface(columns: int, head_dim: int) -> Figure:
    """log₁₀ of the relative error of three kernel estimates over angle and length of x and y; lines at 0.1 and 1."""
    lengths, angles = np.linspace(0.02, 2, 60), np.linspace(0.01, 3.13, 60)
    fig, axes = kernel_figures.panels(len(SURFACES))
    for ax, kernel in zip(axes, SURFACES, strict=True):
        error = np.log10(error_map(kernel, lengths, angles, head_dim, columns).clip(1e-3, 10))
        image = ax.pcolormesh(angles, lengths, error, cmap="viridis", vmin=-3, vmax=1, rasterized=True)
        ax.contour(angles, lengths, error, ERROR_LEVELS, colors="#ffffff", linewidths=1, linestyles=["--", "-"])
        ax.set(title=kernel, xlabel="angle between x and y")
        ax.grid(False)
    axes[0].set_ylabel("|x| = |y|")
    fig.colorbar(image, ax=axes, label="log₁₀ of the relative error")
    return fig


def remembered_signal(signals: dict[str, Float[Tensor, " length"]], basis: int, width: float, ridge: float) -> Figure:
    """Every signal and what one regression on the bumps keeps of it, with the share of the variance that is lost."""
    fig, axes = plt.subplots(len(signals), 1, sharex=True, figsize=(7, 1 + 1.2 * len(signals)), squeeze=False)
    for ax, (name, signal) in zip(axes[:, 0], signals.items(), strict=True):
        kept = reconstruction_matrix(len(signal), basis, width, ridge) @ signal
        lost = float((signal - kept).square().sum() / signal.square().sum())
        ax.plot(signal, color="#9aa0a8", linewidth=0.7)
        ax.plot(kept, color=MODEL_STYLE["infinite_former"]["color"], linewidth=1.6)
        ax.set_title(f"{name}: {100 * lost:.0f} % lost", fontsize=10)
    axes[-1, 0].set_xlabel("event")
    return fig


def remembered_age(contraction: float, samples: int, basis: int) -> Figure:
    """Gain and error of a segment's remembered mean by age when updates contract, and at even resolution beside it."""
    fig, panels = plt.subplots(1, 2)
    looks = {
        "uniform": {"color": COLOURS["uniform"], "label": f"τ = {contraction:g}"},
        "even": {"color": COLOURS["even"], "linestyle": "--", "label": "even resolution"},
    }
    for sampling, look in looks.items():
        settings = MemorySettings(basis, sampling=sampling, contraction=contraction, samples=samples)
        rows = retention_rows(settings, AGES)
        for ax, metric in zip(panels, ("gain", "relative_error"), strict=True):
            line = rows[rows["metric"] == metric]
            ax.plot(line["x"], line["value"], **look)
    panels[0].axhline(0.5, color="#1b1f24", linewidth=0.8)
    panels[1].axhline(1, color="#1b1f24", linewidth=0.8)
    panels[0].set(xlabel="age in segments", ylabel="gain of a segment's mean", ylim=(-0.5, 2))
    panels[1].set(xlabel="age in segments", ylabel="error of a segment's mean", ylim=(0, 2.5))
    panels[0].legend()
    return fig


def attention_of(run: Run, histories: Histories, customer: int) -> Figure:
    """First-layer softmax attention of one customer's last events, head by head."""
    return figures.attention_map(insight.softmax_weights(run.model, histories, customer, ATTENTION_EVENTS))


def kernel_error_of(run: Run, histories: Histories, customer: int | None) -> Figure:
    """Error of the Performer's output against exact softmax on the queries and keys of one customer, or of all."""
    customers = run.predictions["position"].to_numpy() if customer is None else np.array([customer])
    errors = insight.kernel_error(run.model, histories, customers, [16, 32, 64, 128, 256, 512], seed=0)
    return figures.kernel_error(errors, len(run.model.encoder.layers[0].attention.projection))


def memory_reads_of(run: Run, histories: Histories, customer: int) -> Figure:
    """Where one customer's queries read the past, by head; a history within its first segment has none to read."""
    densities = insight.memory_densities(run, histories, np.array([customer]))
    fig, ax = plt.subplots(figsize=(7, 3.2))
    ax.axhline(1, color="#1b1f24", linestyle=":", linewidth=0.8)
    ax.set(xlabel="place in the past (0 oldest, 1 newest)", ylabel="mean density of the reads", xlim=(0, 1))
    if densities.empty:
        ax.text(0.5, 0.5, "no past: the history ends within its first segment", ha="center", transform=ax.transAxes)
        return fig
    places = np.linspace(0, 1, 101)
    for head, reads in densities.groupby("head"):
        heights = norm.pdf(places[:, None], reads["mean"].to_numpy(), reads["width"].to_numpy()).mean(1)
        ax.plot(places, heights, label=f"head {head}")
    ax.set_ylim(0, None)
    ax.legend()
    return fig


def slider(label: str, values: Sequence[int | float], value: int | float) -> SelectionSlider:
    """A slider over the given values, its first one among them, that answers when it is let go."""
    return SelectionSlider(description=label, options=sorted({*values, value}), value=value, continuous_update=False)


def explorer(shown: ShownFigure, draw: Callable[..., Figure], **controls: ValueWidget) -> VBox:
    """Controls whose moves put what `draw` makes of their values in the place of the figure that is shown."""

    def redraw(_: object) -> None:
        values = {name: control.value for name, control in controls.items()}
        picked = ", ".join(f"{control.description} {control.label}" for control in controls.values())
        shown.redraw(draw(**values), f"As picked: {picked}.")

    for control in controls.values():
        control.style.description_width = "initial"
        control.observe(redraw, names="value")
    return VBox([*controls.values()])


def customer_explorer(
    shown: ShownFigure,
    draw: Callable[[Run, Histories, int | None], Figure],
    run: Run,
    histories: Histories,
    first: int | None = None,
) -> VBox:
    """Picks a left-out customer by the length of the history; `first` stands picked, None for all of them."""
    customers = insight.some_customers(run, 20).tolist()
    by_length = {int(histories.lengths[each]): each for each in [*customers, *([] if first is None else [first])]}
    options = [(f"{length:,} events", by_length[length]) for length in sorted(by_length)]
    options = [("all left-out customers", None), *options] if first is None else options
    picker = Dropdown(description="history of", options=options, value=first)
    return explorer(shown, lambda customer: draw(run, histories, customer), customer=picker)


def example_signals(length: int, seed: int, real: Float[Tensor, "customers length model_dim"]) -> dict[str, Tensor]:
    """One signal of each kind of `reconstruction`, and one coordinate of one customer's embedded events, centred."""
    drawn = {
        name: reconstruction.drawn_signals(length, correlation, 1, seed)[:, 0]
        for name, correlation in reconstruction.SIGNALS.items()
    }
    coordinate = real[0, :, 0].double()
    return drawn | {"a customer's embedded events, one coordinate": coordinate - coordinate.mean()}
