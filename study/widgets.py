"""Figures to play with: moving a control draws another one beside the report's own.

Controls need a live kernel, so pages leave them out.
"""

from collections.abc import Callable, Sequence
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from ipywidgets import HTML, Dropdown, SelectionSlider, ValueWidget, VBox
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import norm
from torch import Tensor

from lib.attention.softmax import attention_weights
from lib.data.histories import Histories
from lib.training.runs import Run
from study import figures, insight
from study.kernel import figures as kernel_figures
from study.kernel.closed_forms import error_map
from study.memory import reconstruction
from study.report import MODEL_STYLE, named_svg


def kernel_surface(columns: int, head_dim: int) -> Figure:
    """log₁₀ of the relative error of three kernel estimates over angle and length of x and y; lines at 0.1 and 1."""
    lengths, angles = np.linspace(0.02, 2, 60), np.linspace(0.01, 3.13, 60)
    fig, axes = kernel_figures.panels(3)
    for ax, kernel in zip(axes, ("trigonometric", "positive", "hyperbolic"), strict=True):
        error = np.log10(error_map(kernel, lengths, angles, head_dim, columns).clip(1e-3, 10))
        image = ax.pcolormesh(angles, lengths, error, cmap="viridis", vmin=-3, vmax=1, rasterized=True)
        ax.contour(angles, lengths, error, (-1.0, 0.0), colors="#ffffff", linewidths=1, linestyles=["--", "-"])
        ax.set(title=kernel, xlabel="angle between x and y")
        ax.grid(False)
    axes[0].set_ylabel("|x| = |y|")
    fig.colorbar(image, ax=axes, label="log₁₀ of the relative error")
    return fig


def remembered_signal(signals: dict[str, Float[Tensor, " length"]], basis: int, width: float, ridge: float) -> Figure:
    """Every signal and what one regression on the bumps keeps of it, with the share of the variance that is lost."""
    fig, axes = plt.subplots(len(signals), 1, sharex=True, figsize=(7, 1 + 1.2 * len(signals)), squeeze=False)
    for ax, (name, signal) in zip(axes[:, 0], signals.items(), strict=True):
        kept = reconstruction.reconstruction_matrix(len(signal), basis, width, ridge) @ signal
        lost = float((signal - kept).square().sum() / signal.square().sum())
        ax.plot(signal, color="#9aa0a8", linewidth=0.7)
        ax.plot(kept, color=MODEL_STYLE["infinite_former"]["color"], linewidth=1.6)
        ax.set_title(f"{name}: {100 * lost:.0f} % lost", fontsize=10)
    axes[-1, 0].set_xlabel("event")
    return fig


@torch.no_grad()
def attention_of(run: Run, histories: Histories, customer: int) -> Figure:
    """First-layer softmax attention of one customer's last 256 events, head by head."""
    _, (queries, keys, _), key_mask = insight.projected(run.model, histories, np.array([customer]), 256)
    return figures.attention_map(attention_weights(queries, keys, key_mask)[0].numpy())


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


def explorer(draw: Callable[..., Figure], **controls: ValueWidget) -> VBox:
    """Controls whose moves show, below them, what `draw` makes of their values; the report keeps the figure above."""
    picked = HTML()

    def redraw(_: object) -> None:
        fig = draw(**{name: control.value for name, control in controls.items()})
        picked.value = named_svg(fig, "picked", "As picked").partition("?>")[2]
        plt.close(fig)

    for control in controls.values():
        control.style.description_width = "initial"
        control.observe(redraw, names="value")
    return VBox([*controls.values(), picked])


def customer_explorer(
    draw: Callable[[Run, Histories, int], Figure], run: Run, histories: Histories, first: int
) -> VBox:
    """Picks a left-out customer by the length of the history; `first` stands picked."""
    by_length = {int(histories.lengths[each]): each for each in [*insight.some_customers(run, 20).tolist(), first]}
    options = [(f"{length:,} events", by_length[length]) for length in sorted(by_length)]
    picker = Dropdown(description="history of", options=options, value=first)
    return explorer(partial(draw, run, histories), customer=picker)


def example_signals(length: int, seed: int, real: Float[Tensor, "customers length model_dim"]) -> dict[str, Tensor]:
    """One signal of each kind of `reconstruction`, and one coordinate of one customer's embedded events, centred."""
    kinds = reconstruction.SIGNALS.items()
    drawn = {name: reconstruction.drawn_signals(length, lasts, 1, seed)[:, 0] for name, lasts in kinds}
    coordinate = real[0, :, 0].double()
    return drawn | {"a customer's embedded events, one coordinate": coordinate - coordinate.mean()}
