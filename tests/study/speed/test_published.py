"""The transcription computes what it claims to: the published mathematics, which this study's layer also computes."""

import math

import pytest
import torch

from lib.attention.infinite_former import LEAST_VARIANCE, InfiniteFormerAttention, MemorySettings
from study.speed.published import (
    PublishedExpectation,
    PublishedWeights,
    published_geometry,
    published_memory,
    published_sticky_samples,
)

SINGLE = torch.finfo(torch.float32).eps


def test_gradient_of_the_expectation():
    generator = torch.Generator().manual_seed(0)
    means = torch.linspace(0, 1, 5, dtype=torch.float64)
    mean = torch.rand(4, generator=generator, dtype=torch.float64)
    variance = 0.01 + 0.1 * torch.rand(4, generator=generator, dtype=torch.float64)
    canonical = torch.stack([mean / variance, -0.5 / variance], dim=-1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda c: PublishedExpectation.apply(c, means, torch.full_like(means, 0.2)), canonical
    )


def test_a_first_segment_reads_as_this_studys_layer_does():
    torch.manual_seed(0)
    module = InfiniteFormerAttention(8, 2, MemorySettings(8, 16, "uniform", samples=32, prior_width=0.05))
    with torch.no_grad():
        module.affine_weight.copy_(module.affine_weight[:, :1].expand_as(module.affine_weight))
        module.affine_bias.zero_()
    maps = [layer.weight for layer in (module.memory_keys, module.memory_values, module.memory_projection)]
    weights = PublishedWeights(*maps, *(module.basis * module.affine_weight[:, :1]))
    events, queries = torch.randn(3, 16, 8), torch.randn(3, 2, 16, 4)
    theirs = published_memory(events, queries, None, None, published_geometry(8, 16, 32), weights)
    _, memory = module.step(events)
    context, divergence = module.read(queries, memory.coefficients)
    ours = module.memory_projection(context.transpose(1, 2).flatten(2))
    # Theirs inverts in single precision: an error of the condition number of the Gram matrix times its rounding.
    centres = module.functions.centres
    design = (
        torch.exp(-0.5 * ((torch.arange(16) + 0.5)[:, None] / 16 - centres).square() * 49) * 7 / math.sqrt(2 * math.pi)
    )
    condition = torch.linalg.cond(design.T @ design + 0.5 * torch.eye(8)).item()
    bound = 8 * condition * SINGLE
    assert (theirs[2] - memory.coefficients).abs().max() <= bound * memory.coefficients.abs().max()
    # The variance near 0.7 differs by the floor, whose relative size is a few thousand roundings at most.
    slack = bound * 16 + 4 * LEAST_VARIANCE
    assert (theirs[0] - ours).abs().max() <= slack * ours.abs().max()
    assert abs(theirs[1] - divergence.mean()) <= slack * theirs[1]


@pytest.mark.parametrize("sticky", [False, True])
def test_later_segments_pass_gradients_to_their_weights_only(sticky):
    torch.manual_seed(0)
    weights = PublishedWeights(*(torch.randn(8, 8, requires_grad=True) for _ in range(3)), *torch.randn(2, 1, 8))
    geometry = published_geometry(8, 16, 32)
    events, queries = torch.randn(2, 16, 8), torch.randn(2, 2, 16, 4, requires_grad=True)
    _, _, past, read = published_memory(events, queries, None, None, geometry, weights)
    assert not past.requires_grad
    output, _, _, _ = published_memory(events, queries, past, read if sticky else None, geometry, weights)
    output.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in weights[:3])
    assert published_sticky_samples(*read, geometry, 32).shape == (2, 32, 8)
