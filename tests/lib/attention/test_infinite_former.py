import math

import torch

from lib.attention.continuous_memory import basis_values
from lib.attention.infinite_former import InfiniteFormerAttention, MemorySettings

SINGLE = torch.finfo(torch.float32).eps


def attention(sampling="uniform", model_dim=16, heads=2, **settings):
    torch.manual_seed(0)
    settings = {"basis": 8, "segment": 16, "samples": 32, **settings}
    return InfiniteFormerAttention(model_dim, heads, MemorySettings(sampling=sampling, **settings))


def events(rows, length, model_dim=16, seed=1):
    return torch.randn(rows, length, model_dim, generator=torch.Generator().manual_seed(seed))


def test_initial_densities_differ_between_heads():
    module = attention(heads=4)
    density = module.density(torch.zeros(1, 4, 1, 4), torch.zeros(1, 8, 16))
    assert torch.allclose(density.mean.flatten(), torch.linspace(0.1, 0.9, 4), atol=4 * SINGLE)
    widths = density.variance.flatten().sqrt()
    # Variances of at least 0.0025 leave the floor of 1e-6 a share of 0.0004, half of it in the deviation.
    assert torch.allclose(widths, torch.logspace(math.log10(0.4), math.log10(0.05), 4), rtol=3e-4)


def test_even_resolution_keeps_every_event_at_the_same_weight():
    """A ramp over six segments is still the same ramp: event n of all N is found at (n + 1/2) / N."""
    module = attention("even", model_dim=1, heads=1, basis=16, samples=64)
    ramp = (torch.arange(96.0) + 0.5)[None, :, None] / 96
    memory = None
    for start in range(0, 96, 16):
        _, memory = module.step(ramp[:, start : start + 16], None, memory)
    inner = torch.linspace(0.1, 0.9, 41, dtype=torch.float64)
    remembered = basis_values(inner, module.functions) @ memory.coefficients[0].double()
    # One regression misses up to two percent of a constant near the ends, and there have been six.
    assert (remembered[:, 0] - inner).abs().max() < 6 * 0.02


def test_regulariser_is_the_mean_over_real_queries_that_have_a_past():
    module, inputs = attention(), events(2, 40)
    mask = torch.arange(40) < torch.tensor([40, 20])[:, None]
    queries = module.project(inputs)[0]
    _, memory = module.step(inputs[:, :16])
    _, second = module.read(queries[:, :, 16:32], memory.coefficients)
    _, memory = module.step(inputs[:, 16:32], None, memory)
    _, third = module.read(queries[:, :, 32:], memory.coefficients)
    total = second[0].sum() + second[1, :, :4].sum() + third[0].sum()
    # Sixty-odd terms added in another order.
    assert abs(module(inputs, mask).regulariser - total / (2 * (16 + 4 + 8))) <= 64 * SINGLE * total / 56


def test_a_read_of_a_constant_is_the_constant_times_the_mass_inside():
    module = attention(model_dim=2, heads=1, basis=32, segment=64, samples=64)
    with torch.no_grad():
        module.memory_values.weight.copy_(torch.eye(2))
        module.affine_weight.zero_()
        module.affine_bias.copy_(torch.tensor([[0.0], [math.log(math.expm1(0.01))]]))
    _, memory = module.step(torch.ones(1, 64, 2))
    context, _ = module.read(torch.zeros(1, 1, 1, 2), memory.coefficients)
    # Half the interval is five deviations; what remains is one regression's error on a constant.
    assert (context - 1).abs().max() < 0.02
