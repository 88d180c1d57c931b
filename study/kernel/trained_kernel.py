"""Random features on a trained model's own queries and keys, layer by layer and head by head."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from lib import paths
from lib.attention.performer import favor_attention
from lib.attention.random_features import draw_projection
from lib.attention.softmax import softmax_attention
from lib.data.batches import Batch
from lib.data.histories import Histories
from lib.training.classifier import Classifier, ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import Run, run_name, run_or_load
from study.insight import batch_of
from study.kernel.approximation import approximation_report
from study.kernel.kernel_error import rows_for


def finished_run(histories: Histories, folds: int, epochs: int) -> Run | None:
    """The softmax model of the first repeat and fold, if it has been trained; None otherwise."""
    configs = ModelConfig(attention="softmax"), TrainConfig(epochs=epochs)
    folder = paths.RUNS / run_name(histories, 0, folds, *configs, 0)
    return run_or_load(histories, 0, folds, *configs, 0) if folder.exists() else None


def longest_batch(run: Run, histories: Histories, customers: int, events: int) -> Batch:
    """The last events of the left-out customers with the longest histories."""
    positions = run.predictions["position"].to_numpy()
    order = np.argsort(-histories.lengths[positions], kind="stable")
    return batch_of(histories, positions[order[:customers]], events)


@torch.no_grad()
def heads_of(model: Classifier, batch: Batch) -> list[tuple[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
    """Queries, keys and values of every head, under a name such as "layer 1 head 2"."""
    named = []
    inputs = model.attention_inputs(batch.categories, batch.numbers, batch.days, batch.key_mask)
    for layer, (attention, events) in enumerate(inputs, 1):
        projected = attention.project(events)
        named += [
            (f"layer {layer} head {head + 1}", tuple(tensor[:, head : head + 1] for tensor in projected))
            for head in range(attention.heads)
        ]
    return named


def head_sizes(model: Classifier, batch: Batch) -> pd.DataFrame:
    """Mean squared length of x and y over real events, and quantiles of |x+y|² over pairs of them, head by head."""
    rows = []
    for name, (queries, keys, _) in heads_of(model, batch):
        scale, real = queries.shape[-1] ** -0.5, batch.key_mask
        squares = {"query_square": queries, "key_square": keys}
        sizes = {label: (v[:, 0][real].square().sum(-1).mean() * scale).item() for label, v in squares.items()}
        pairs = (queries[:, 0, :, None] + keys[:, 0, None]).square().sum(-1) * scale
        pairs = pairs[real[:, :, None] & real[:, None]].numpy()
        sizes |= {f"sum_square_{q}": float(np.quantile(pairs, q / 100)) for q in (50, 90, 99)}
        rows += [{"split": name, "metric": metric, "value": value} for metric, value in sizes.items()]
    return pd.DataFrame(rows).assign(model="softmax", seed=None, axis="final", x=None)


def head_reports(
    model: Classifier, batch: Batch, estimators: Sequence[str], columns: int, generator: torch.Generator
) -> pd.DataFrame:
    """`approximation_report` of every head at equal columns; features that no number would reach have no row."""
    rows = []
    for name, (queries, keys, _) in heads_of(model, batch):
        for estimator in estimators:
            kernel, projection = estimator.split(" ")
            count = rows_for(kernel, columns)
            directions = draw_projection(projection, count, queries.shape[-1], generator)
            report = approximation_report(queries, keys, directions, kernel, batch.key_mask)
            found = {"weight_error": report.relative_error, "uniform_error": report.uniform_error}
            found |= {f"features_for_{100 * target:.0f}": needed for target, needed in report.features_needed.items()}
            rows += [
                {"model": estimator, "split": name, "metric": metric, "value": value}
                for metric, value in found.items()
                if np.isfinite(value)
            ]
    return pd.DataFrame(rows).assign(seed=None, axis="columns", x=columns)


@torch.no_grad()
def head_errors(
    model: Classifier,
    batch: Batch,
    estimators: Sequence[str],
    sizes: Sequence[int],
    draws: int,
    generator: torch.Generator,
) -> pd.DataFrame:
    """Relative error of every head's output against exact softmax over real events, by feature columns and draw.

    The model named uniform weighs all real events alike.
    """
    rows = []
    real = batch.key_mask[:, None, :, None]
    for name, inputs in heads_of(model, batch):
        exact = softmax_attention(*inputs, batch.key_mask) * real
        mean = (inputs[2] * real).sum(2, keepdim=True) / real.sum(2, keepdim=True) * real
        level = ((mean - exact).norm() / exact.norm()).item()
        rows.append({"model": "uniform", "split": name, "seed": None, "x": None, "value": level})
        for estimator in estimators:
            kernel, projection = estimator.split(" ")
            for size in sizes:
                count = rows_for(kernel, size)
                for draw in range(draws):
                    directions = draw_projection(projection, count, inputs[0].shape[-1], generator)
                    estimate = favor_attention(*inputs, directions, kernel, key_mask=batch.key_mask) * real
                    error = ((estimate - exact).norm() / exact.norm()).item()
                    rows.append({"model": estimator, "split": name, "seed": draw, "x": size, "value": error})
    return pd.DataFrame(rows).assign(axis="columns", metric="relative_output_error")
