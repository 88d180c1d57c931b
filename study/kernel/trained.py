"""Random features on a trained model's own queries and keys, layer by layer and head by head."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import storage
from lib.attention import Heads, Mask
from lib.attention.performer import favor_attention
from lib.attention.random_features import draw_projection
from lib.attention.softmax import attention_weights, softmax_attention
from lib.data.batches import Batch
from lib.data.histories import Histories
from lib.training.classifier import Classifier
from lib.training.runs import Run, run_name, run_or_load
from study.kernel.closed_forms import error_parts, rows_for
from study.variants import VARIANTS

EXAMINED = 64  # queries of each customer, evenly spaced
DRAWS = 5  # of the projection, for errors of the output
TARGETS = (0.1, 0.05, 0.01)  # relative errors of the weights


def finished_run(histories: Histories, folds: int, epochs: int) -> Run | None:
    """The softmax model of the first repeat and fold; None if it has not been trained."""
    configs = VARIANTS["softmax"].configs(epochs)
    folder = storage.RUNS / run_name(histories, 0, folds, *configs, 0)
    return run_or_load(histories, 0, folds, *configs, 0) if folder.exists() else None


@torch.no_grad()
def heads_of(model: Classifier, batch: Batch) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Queries, keys and values of every head, under a name such as "layer 1 head 2"."""
    named = {}
    inputs = model.attention_inputs(batch.categories, batch.numbers, batch.days, batch.key_mask)
    for layer, (attention, events) in enumerate(inputs, 1):
        projected = attention.project(events)
        for head in range(attention.heads):
            named[f"layer {layer} head {head + 1}"] = tuple(tensor[:, head : head + 1] for tensor in projected)
    return named


def features_needed(queries: Heads, keys: Heads, estimator: str, key_mask: Mask) -> dict[float, float]:
    """Rows of the projection that the closed forms ask for, by relative error of the weights; infinite past a bias.

    Each pair's error counts by its squared weight, which leaves out that errors of one row are correlated. Pairs are
    counted in narrow bins of the one number that the error depends on, for evenly spaced queries.
    """
    kernel, projection = estimator.split(" ")
    queries, keys, head_dim = queries.double(), keys.double(), queries.shape[-1]
    chosen = torch.linspace(0, queries.shape[2] - 1, min(EXAMINED, queries.shape[2])).round().long()
    weights = attention_weights(queries[:, :, chosen], keys, key_mask) * key_mask[:, None, chosen, None]
    cross = queries[:, :, chosen] @ keys.transpose(-2, -1) * head_dim**-0.5
    squares = queries[:, :, chosen].square().sum(-1)[..., None] + keys.square().sum(-1)[..., None, :]
    number = squares * head_dim**-0.5 + (-2 if kernel == "trigonometric" else 2) * cross
    share = weights.square() / weights.square().sum()
    counts, edges = np.histogram(number.clamp_min(0).numpy().ravel(), 4096, weights=share.numpy().ravel())
    middle = (edges[1:] + edges[:-1]) / 2
    variance, ratio = error_parts(kernel, projection, head_dim, middle, middle)
    variance, bias = counts @ variance, counts @ (ratio / (counts @ ratio) - 1) ** 2
    return {target: variance / (target**2 - bias) if bias < target**2 else np.inf for target in TARGETS}


def needed_rows(model: Classifier, batch: Batch, estimators: Sequence[str]) -> pd.DataFrame:
    """`features_needed` of every head; what no number would reach has no row."""
    rows = [
        {"model": estimator, "split": name, "metric": f"features_for_{100 * target:.0f}", "value": needed}
        for name, (queries, keys, _) in heads_of(model, batch).items()
        for estimator in estimators
        for target, needed in features_needed(queries, keys, estimator, batch.key_mask).items()
    ]
    table = pd.DataFrame(rows).assign(seed=None, axis="final", x=None)
    return table[np.isfinite(table["value"])]


@torch.no_grad()
def head_errors(
    model: Classifier, batch: Batch, estimators: Sequence[str], sizes: Sequence[int], generator: torch.Generator
) -> pd.DataFrame:
    """Relative error of every head's output over real events, by columns and draw; "uniform" weighs all alike."""
    rows = []
    real = batch.key_mask[:, None, :, None]
    for name, inputs in heads_of(model, batch).items():
        exact = softmax_attention(*inputs, batch.key_mask) * real
        mean = (inputs[2] * real).sum(2, keepdim=True) / real.sum(2, keepdim=True) * real
        level = ((mean - exact).norm() / exact.norm()).item()
        rows.append({"model": "uniform", "split": name, "seed": None, "x": None, "value": level})
        for estimator in estimators:
            kernel, projection = estimator.split(" ")
            for size in sizes:
                for draw in range(DRAWS):
                    count = rows_for(kernel, size)
                    directions = draw_projection(projection, count, inputs[0].shape[-1], generator)
                    estimate = favor_attention(*inputs, directions, kernel, key_mask=batch.key_mask) * real
                    error = ((estimate - exact).norm() / exact.norm()).item()
                    rows.append({"model": estimator, "split": name, "seed": draw, "x": size, "value": error})
    return pd.DataFrame(rows).assign(axis="columns", metric="relative_output_error")
