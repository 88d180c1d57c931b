"""Every mechanism as its equations stand, in double precision and without a thought for speed, and inputs for both."""

import copy
import math

import torch

from lib.attention.continuous_memory import basis_values, cell_middles, expected_basis, gaussian_divergence
from lib.attention.infinite_former import score_scale

SINGLE = torch.finfo(torch.float32).eps


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_heads(batch=2, heads=2, length=23, head_dim=4, scale=1.0, seed=0, dtype=torch.float64):
    """Queries and keys of this scale, and values."""
    queries, keys, values = torch.randn(3, batch, heads, length, head_dim, generator=seeded(seed)).to(dtype)
    return [scale * queries, scale * keys, values]


def relative_error(found, exact):
    return ((found.double() - exact).abs().max() / exact.abs().max()).item()


def softmax_weights(queries, keys, key_mask=None, causal=False):
    scores = queries @ keys.mT / queries.shape[-1] ** 0.5
    return softmax_over(seen_pairs(scores, key_mask, causal), scores)


def seen_pairs(scores, key_mask, causal):
    """Which keys neither the mask nor causality hides from a query."""
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool)
    seen = seen.tril() if causal else seen
    return seen if key_mask is None else seen & key_mask[:, None, None]


def softmax_over(seen, scores):
    """Weights of zero where nothing is seen; finite scores there keep gradients finite too."""
    return scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(~seen, 0)


def favor_weights(queries, keys, projection, kernel, causal=False, key_mask=None):
    """The estimate of every pair, normalised over the keys that a query sees, at any norm."""
    x, y = (vectors * vectors.shape[-1] ** -0.25 for vectors in (queries, keys))
    norm = y.square().sum(-1, keepdim=True) / 2
    if kernel == "trigonometric":
        one, other = x @ projection.T, y @ projection.T
        estimate, level = one.cos() @ other.cos().mT + one.sin() @ other.sin().mT, norm.mT
        seen = seen_pairs(estimate, key_mask, causal)
        level = level.expand_as(estimate).masked_fill(~seen, torch.finfo(level.dtype).min)
        estimate = estimate * (level - level.amax(-1, keepdim=True)).exp() * seen
        mass = estimate.sum(-1, keepdim=True)
        return estimate / mass.masked_fill(mass == 0, 1)
    if kernel == "hyperbolic":
        projection = torch.cat([projection, -projection])
    one, other = x @ projection.T, y @ projection.T
    logarithms = (one[..., :, None, :] + (other - norm)[..., None, :, :]).logsumexp(-1)
    return softmax_over(seen_pairs(logarithms, key_mask, causal), logarithms)


def memory_read(module, queries, coefficients):
    """Of one history: scores for every basis function or bin, what they become, and the values."""
    heads = (module.heads, module.head_dim)
    keys, values = (
        (coefficients @ projection.weight.T).unflatten(-1, heads).transpose(0, 1)
        for projection in (module.memory_keys, module.memory_values)
    )
    if not hasattr(module, "affine_weight"):
        return softmax_weights(queries, keys) @ values, torch.zeros_like(queries[..., 0])
    scores = score_scale(module.settings) * queries @ keys.mT / math.sqrt(module.head_dim)
    place, spread = (
        torch.einsum("hln,hn->hl", scores, weight) + bias[:, None]
        for weight, bias in zip(module.affine_weight, module.affine_bias, strict=True)
    )
    variance = torch.nn.functional.softplus(spread).clamp(min=module.settings.least_variance)
    context = expected_basis(place.sigmoid(), variance, module.functions) @ values
    return context, gaussian_divergence(variance, module.settings.prior_width)


def sticky_times(module, queries, coefficients):
    """Quantiles of where the queries' densities lie, piecewise linear between the edges of the bins."""
    keys = (coefficients @ module.memory_keys.weight.T).unflatten(-1, (module.heads, module.head_dim)).transpose(0, 1)
    scores = score_scale(module.settings) * queries @ keys.mT / math.sqrt(module.head_dim)
    logits = torch.einsum("hln,phn->phl", scores, module.affine_weight) + module.affine_bias[..., None]
    mean, variance = logits[0].sigmoid(), torch.nn.functional.softplus(logits[1]).clamp(min=1e-6)
    edges = torch.linspace(0, 1, module.settings.bins + 1, dtype=torch.float64)
    normal = torch.distributions.Normal(mean[..., None], variance.sqrt()[..., None])
    heights = normal.cdf(edges).sum((0, 1))
    share = (heights - heights[0]) / (heights[-1] - heights[0])
    times = []
    for quantile in cell_middles(module.settings.samples).tolist():
        place = int((share[1:] < quantile).sum())
        inside = (quantile - share[place]) / (share[place + 1] - share[place])
        times.append((place + inside) / module.settings.bins)
    return torch.stack(times)


def rewritten_bins(module, bins, events, kept):
    """Means in equal bins of a signal that is constant in each old bin, squeezed into [0, τ], and in each new event."""
    cells = [(kept * j / module.basis, kept * (j + 1) / module.basis) for j in range(module.basis)] if kept else []
    width = (1 - kept) / len(events)
    cells += [(kept + width * j, kept + width * (j + 1)) for j in range(len(events))]
    signal = torch.cat([bins, events]) if kept else events
    rows = []
    for j in range(module.basis):
        low, high = j / module.basis, (j + 1) / module.basis
        covered = [max(0.0, min(end, high) - max(start, low)) * module.basis for start, end in cells]
        rows.append(torch.tensor(covered, dtype=torch.float64) @ signal)
    return torch.stack(rows)


def rewritten(module, past, events, queries, seen):
    """The past read back at some times and laid out in [0, τ], the new events in [τ, 1], and one ridge regression."""
    share = module.geometry.share
    kept = 0.0 if not seen else seen / (seen + len(events)) if share is None else share
    if not hasattr(module, "affine_weight"):
        return rewritten_bins(module, past, events, kept)
    target, places = events, kept + (1 - kept) * cell_middles(len(events))
    if seen:
        even = cell_middles(module.settings.samples)
        times = sticky_times(module, queries, past) if module.settings.sampling == "sticky" else even
        target = torch.cat([basis_values(times, module.functions) @ past, events])
        places = torch.cat([kept * even, places])
    design = basis_values(places, module.functions)
    gram = design.mT @ design + module.settings.ridge * torch.eye(module.basis, dtype=torch.float64)
    return torch.linalg.solve(gram, design.mT @ target)


def memory_attention(module, events):
    """The outputs and memory of one whole history (length, model_dim), segment by segment, and the mean regulariser."""
    module, events = copy.deepcopy(module).double(), events.double()
    heads = (module.heads, module.head_dim)
    queries, keys, values = (
        part.unflatten(-1, heads).transpose(0, 1) for part in module.in_projection(events).chunk(3, -1)
    )
    outputs, divergences, memory = [], [], None
    for start in range(0, len(events), module.segment):
        part = slice(start, start + module.segment)
        local = softmax_weights(queries[:, part], keys[:, part], causal=module.causal) @ values[:, part]
        output = module.out_projection(local.transpose(0, 1).flatten(1))
        if start:
            context, divergence = memory_read(module, queries[:, part], memory)
            output = output + context.transpose(0, 1).flatten(1) @ module.memory_projection.weight.T
            divergences.append(divergence)
        memory = rewritten(module, memory, events[part], queries[:, part], start)
        outputs.append(output)
    regulariser = torch.cat(divergences, -1).mean() if divergences else torch.zeros((), dtype=torch.float64)
    return torch.cat(outputs), regulariser, memory


def attention(module, events):
    """The outputs of any mechanism here for one whole history."""
    if hasattr(module, "memory_keys"):
        return memory_attention(module, events)[0]
    module, events = copy.deepcopy(module).double(), events.double()
    queries, keys, values = module.project(events[None])
    if hasattr(module, "projection"):
        weights = favor_weights(queries, keys, module.projection.double(), module.kernel, module.causal)
    else:
        weights = softmax_weights(queries, keys, causal=module.causal)
    return module.merge(weights @ values)[0]
