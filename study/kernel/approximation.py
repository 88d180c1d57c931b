"""How far a Performer's attention is from softmax, and how many random features would bring it closer."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.attention.performer import favor_weights, tilt_of
from lib.attention.softmax import attention_weights
from study.kernel.kernel_variance import error_parts

TARGETS = (0.1, 0.05, 0.01)
EXAMINED = 64


class ApproximationReport(NamedTuple):
    """How far one attention is from softmax; errors are ‖A' - A‖ / ‖A‖ over the weights of the examined queries.

    `uniform_error` is that of weights that ignore the query, `predicted_error` the root mean square that the closed
    forms expect of this many features (above one it is carried by rare draws, and a typical error is smaller),
    `features_needed` how many rows they ask for by target (infinite where a bias remains), `sum_square` the mean of
    |x+y|² over pairs in proportion to their squared weight, and `warning` is None where 10 % is within reach.
    """

    relative_error: float
    uniform_error: float
    predicted_error: float
    features_needed: dict[float, float]
    sum_square: float
    warning: str | None


def _predicted(
    weights: Tensor, queries: Tensor, keys: Tensor, projection: Tensor, kernel: str, tilt: float
) -> tuple[float, float, float]:
    """Mean of |x+y|², one row's share of the relative variance, and the squared bias, in proportion to weights squared.

    Pairs are counted in narrow bins of the one number that the error depends on.
    """
    head_dim = queries.shape[-1]
    cross = queries @ keys.transpose(-2, -1) * head_dim**-0.5
    squares = (queries.square().sum(-1)[..., None] + keys.square().sum(-1)[..., None, :]) * head_dim**-0.5
    share = weights.square() / weights.square().sum()
    sum_square, difference = squares + 2 * cross, (squares - 2 * cross).clamp_min(0)
    number = difference if kernel == "trigonometric" else sum_square
    counts, edges = np.histogram(number.numpy().ravel(), 4096, weights=share.numpy().ravel())
    middle = (edges[1:] + edges[:-1]) / 2
    fixed = torch.allclose(projection.norm(dim=1), torch.tensor(head_dim**0.5, dtype=projection.dtype), rtol=1e-4)
    rows = "fixed_norm" if fixed else "orthogonal"
    variance, bias = error_parts(kernel, rows, head_dim, middle, middle, tilt=tilt)
    ratio = 1 - np.sqrt(bias)
    ratio = ratio / (counts @ ratio)
    return float((share * sum_square).sum()), float(counts @ variance), float(counts @ (ratio - 1) ** 2)


def _warning(needed: dict[float, float], relative_error: float, uniform_error: float, length: int) -> str | None:
    easiest = max(needed)
    if np.isinf(needed[easiest]):
        return f"an error of {easiest:.0%} is out of reach for any number of features: the bias alone is larger"
    if needed[easiest] > length:
        count = f"about {needed[easiest]:.0e} features for {length} keys"
        return f"an error of {easiest:.0%} would take {count}: softmax itself costs less"
    if relative_error > uniform_error:
        return "these weights are further from softmax than weights that ignore the query"
    return None


@torch.no_grad()
def approximation_report(
    queries: Float[Tensor, "batch heads query_length head_dim"],
    keys: Float[Tensor, "batch heads key_length head_dim"],
    projection: Float[Tensor, "features head_dim"],
    kernel: str = "positive",
    key_mask: Bool[Tensor, "batch key_length"] | None = None,
) -> ApproximationReport:
    """Measured and predicted distance from softmax attention, for up to 64 evenly spaced queries.

    The prediction weighs the closed-form variance of each kernel estimate with its softmax weight, and leaves out that
    errors of one row are correlated; it takes rows of the projection as orthogonal, of fixed norm where they are.
    """
    queries, keys = queries.detach().cpu().double(), keys.detach().cpu().double()
    projection = projection.detach().cpu().double()
    key_mask = None if key_mask is None else key_mask.cpu()
    chosen = torch.linspace(0, queries.shape[2] - 1, min(EXAMINED, queries.shape[2])).round().long()
    truth = attention_weights(queries[:, :, chosen], keys, key_mask)
    estimate = favor_weights(queries, keys, projection, chosen, kernel, key_mask=key_mask)
    visible = truth > 0 if key_mask is None else key_mask[:, None, None].expand_as(truth)
    uniform = visible / visible.sum(-1, keepdim=True).clamp_min(1)
    if key_mask is not None and queries.shape[2] == keys.shape[2]:
        real = key_mask[:, None, chosen, None]
        truth, estimate, uniform = truth * real, estimate * real, uniform * real
    relative_error, uniform_error = (float((w - truth).norm() / truth.norm()) for w in (estimate, uniform))
    tilt = float(tilt_of(queries, keys, key_mask=key_mask).mean()) if kernel == "favor++" else 0.0
    sum_square, variance, bias = _predicted(truth, queries[:, :, chosen], keys, projection, kernel, tilt)
    needed = {t: variance / (t**2 - bias) if bias < t**2 else float("inf") for t in TARGETS}
    predicted = float(np.sqrt(variance / len(projection) + bias))
    warning = _warning(needed, relative_error, uniform_error, keys.shape[2])
    return ApproximationReport(relative_error, uniform_error, predicted, needed, sum_square, warning)
