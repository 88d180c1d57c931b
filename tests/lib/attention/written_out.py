"""Every mechanism as its equations stand, in double precision and without a thought for speed, and inputs for both."""

import copy
import math

import numpy as np
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


def assert_equal_to_rounding(one, other, factor=1e4, scale=1.0):
    """Sums of tens of terms and exponents of size ten lose a few thousand roundings; a wrong term is far larger."""
    assert (one - other).abs().max() <= factor * scale * torch.finfo(one.dtype).eps * other.abs().max().clamp(min=1)


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


def memory_scores(module, queries, coefficients):
    """Of one history: the queries' scores for every basis function or bin, and the values there."""
    keys, values = (
        (coefficients @ projection.weight.T).unflatten(-1, (module.heads, module.head_dim)).transpose(0, 1)
        for projection in (module.memory_keys, module.memory_values)
    )
    return queries @ keys.mT / math.sqrt(module.head_dim), values


def density(module, scores):
    """Mean and variance of where each query of one history reads."""
    scores = score_scale(module.settings) * scores
    logits = torch.einsum("hln,phn->phl", scores, module.affine_weight) + module.affine_bias[..., None]
    return logits[0].sigmoid(), torch.nn.functional.softplus(logits[1]).clamp(min=module.settings.least_variance)


def memory_read(module, queries, coefficients):
    """What each query of one history reads, and its regulariser."""
    scores, values = memory_scores(module, queries, coefficients)
    if not hasattr(module, "affine_weight"):
        return scores.softmax(-1) @ values, torch.zeros_like(queries[..., 0])
    mean, variance = density(module, scores)
    context = expected_basis(mean, variance, module.functions) @ values
    return context, gaussian_divergence(variance, module.settings.prior_width)


def sticky_times(module, queries, coefficients):
    """Quantiles of where the queries' densities lie, piecewise linear between the edges of the bins."""
    mean, variance = density(module, memory_scores(module, queries, coefficients)[0])
    edges = torch.linspace(0, 1, module.settings.bins + 1, dtype=torch.float64)
    normal = torch.distributions.Normal(mean[..., None], variance.sqrt()[..., None])
    heights = normal.cdf(edges).sum((0, 1))
    share = (heights - heights[0]) / (heights[-1] - heights[0])
    return torch.from_numpy(np.interp(cell_middles(module.settings.samples), share.detach(), edges))


def rewritten_bins(basis, bins, events, kept):
    """Means in equal bins of a signal that is constant in each old bin, squeezed into [0, τ], and in each new event."""
    old, new, edges = (
        torch.linspace(*limits, cells + 1, dtype=torch.float64)
        for limits, cells in (((0, kept), basis), ((kept, 1), len(events)), ((0, 1), basis))
    )
    starts, ends = torch.cat([old[:-1], new[:-1]]), torch.cat([old[1:], new[1:]])
    covered = torch.minimum(ends, edges[1:, None]) - torch.maximum(starts, edges[:-1, None])
    bins = events.new_zeros(basis, events.shape[1]) if bins is None else bins
    return covered.clamp(min=0) * basis @ torch.cat([bins, events])


def rewritten(module, past, events, queries, seen):
    """The past read back at some times and laid out in [0, τ], the new events in [τ, 1], and one ridge regression."""
    share = module.geometry.share
    kept = 0.0 if not seen else seen / (seen + len(events)) if share is None else share
    if not hasattr(module, "affine_weight"):
        return rewritten_bins(module.basis, past, events, kept)
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
