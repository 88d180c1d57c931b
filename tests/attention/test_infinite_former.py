import math

import pytest
import torch
import torch.nn.functional as F

from lib.attention.continuous_memory import basis_values, cell_middles, expected_basis, gaussian_divergence
from lib.attention.infinite_former import LEAST_VARIANCE, SAMPLINGS, InfiniteFormerAttention

SINGLE = torch.finfo(torch.float32).eps


def attention(sampling="uniform", model_dim=16, heads=2, **settings):
    torch.manual_seed(0)
    settings = {"basis": 8, "segment": 16, "samples": 32, **settings}
    return InfiniteFormerAttention(model_dim, heads, sampling=sampling, **settings)


def events(rows, length, model_dim=16, seed=1):
    return torch.randn(rows, length, model_dim, generator=torch.Generator().manual_seed(seed))


def literal_read(module, queries, coefficients):
    """As printed: scores of every query for every basis function, two affine maps, the expectation, the values."""
    heads = (module.heads, module.head_dim)
    keys = F.linear(coefficients, module.memory_keys.weight).unflatten(-1, heads).transpose(1, 2)
    values = F.linear(coefficients, module.memory_values.weight).unflatten(-1, heads).transpose(1, 2)
    scores = module.basis * queries @ keys.mT / math.sqrt(module.head_dim)
    place = torch.einsum("bhln,hn->bhl", scores, module.affine_weight[0]) + module.affine_bias[0][:, None]
    spread = torch.einsum("bhln,hn->bhl", scores, module.affine_weight[1]) + module.affine_bias[1][:, None]
    variance = F.softplus(spread) + LEAST_VARIANCE
    context = expected_basis(place.sigmoid(), variance, module.functions) @ values
    return context, gaussian_divergence(variance, module.prior_width)


@pytest.mark.parametrize("widths", [(1.0,), (0.6, 3.0)])
def test_read_equals_the_equations(widths):
    module = attention(widths=widths).double()
    queries, coefficients = events(2, 5).double().unflatten(-1, (2, 8)).transpose(1, 2), events(2, 8, seed=2).double()
    read = module.read(queries, coefficients)
    for found, literal in zip(read, literal_read(module, queries, coefficients), strict=True):
        # Sums of 8 scores of 8 products each, then 8 values; the basis holds tails of 2 ** -64 of a peak.
        assert (found - literal).abs().max() <= 512 * torch.finfo(torch.float64).eps * literal.abs().max()


def test_initial_densities_differ_between_heads():
    module = attention(heads=4)
    density = module.density(torch.zeros(1, 4, 1, 4), torch.zeros(1, 8, 16))
    assert torch.allclose(density.mean.flatten(), torch.linspace(0.1, 0.9, 4), atol=4 * SINGLE)
    widths = density.variance.flatten().sqrt()
    # Variances of at least 0.0025 leave the floor of 1e-6 a share of 0.0004, half of it in the deviation.
    assert torch.allclose(widths, torch.logspace(math.log10(0.4), math.log10(0.05), 4), rtol=3e-4)


def test_uniform_recurrence_equals_resampling_and_regression():
    """Read the signal back at M points, put it before the new events and solve the regression, at each segment."""
    module, inputs = attention(), events(1, 64)
    memory = module.empty_memory(1)
    signal = None
    for start in range(0, 64, 16):
        new = inputs[0, start : start + 16].double()
        target, places = new, cell_middles(16)
        if signal is not None:
            old = basis_values(cell_middles(32), module.functions) @ signal
            target, places = torch.cat([old, new]), torch.cat([0.75 * cell_middles(32), 0.75 + 0.25 * cell_middles(16)])
        design = basis_values(places, module.functions)
        gram = design.T @ design + module.ridge * torch.eye(8, dtype=torch.float64)
        signal = torch.linalg.solve(gram, design.T @ target)
        _, memory = module.step(inputs[:, start : start + 16], None, memory)
        # Matrices stored in single precision, at most four updates of sums of 48 terms.
        assert (memory.coefficients[0] - signal).abs().max() <= 4 * 48 * SINGLE * signal.abs().max()


def test_sticky_update_equals_its_steps():
    """The past is read back at quantiles of where the segment attended, then laid out evenly in [0, τ]."""
    module, inputs = attention("sticky"), events(1, 32)
    _, memory = module.step(inputs[:, :16])
    _, later = module.step(inputs[:, 16:], None, memory)
    density = module.density(module.project(inputs[:, 16:])[0], memory.coefficients)
    normal = torch.distributions.Normal(density.mean[..., None].double(), density.variance.sqrt()[..., None].double())
    heights = normal.cdf(torch.linspace(0, 1, 129, dtype=torch.float64)).sum((0, 1, 2))
    share = (heights - heights[0]) / (heights[-1] - heights[0])
    times = []
    for quantile in cell_middles(32).tolist():
        bin_index = int((share[1:] < quantile).sum())
        inside = (quantile - share[bin_index]) / (share[bin_index + 1] - share[bin_index])
        times.append((bin_index + inside) / 128)
    old = basis_values(torch.stack(times), module.functions) @ memory.coefficients[0].double()
    target = torch.cat([old, inputs[0, 16:].double()])
    design = basis_values(torch.cat([0.75 * cell_middles(32), 0.75 + 0.25 * cell_middles(16)]), module.functions)
    gram = design.T @ design + module.ridge * torch.eye(8, dtype=torch.float64)
    literal = torch.linalg.solve(gram, design.T @ target)
    # The masses add 32 error functions in single precision, an error of 32 ε of a sum; a time moves by that over the
    # density there, at least a fifth of its mean, and the signal by a time's error times its slope, 8 per unit.
    bound = (48 + 32 * 5 * 8) * SINGLE * literal.abs().max()
    assert (later.coefficients[0] - literal).abs().max() <= bound


def test_sticky_random_draws_from_its_generator():
    inputs = events(2, 64)

    def outputs(seed):
        module = attention("sticky_random", generator=torch.Generator().manual_seed(seed))
        return module(inputs).output, module(inputs).output

    first, second = outputs(0)
    assert torch.equal(outputs(0)[0], first)
    assert not torch.equal(first, second)
    assert torch.equal(first[:, :32], second[:, :32])


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


@pytest.mark.parametrize("sampling", ["sticky", "uniform", "even"])
@pytest.mark.parametrize("scale", [1e4, 1e12])
def test_memory_of_large_norms_stays_finite(sampling, scale):
    """Where the framework's softmax gradient already overflows, writing and reading do not."""
    module, inputs = attention(sampling), (events(2, 16) * scale).requires_grad_()
    queries, real = module.project(inputs)[0], torch.ones(2, 16, dtype=torch.bool)
    coefficients = module.empty_memory(2).coefficients
    for segments in range(3):
        coefficients = module.write(coefficients, queries, inputs, real, module.whole_update(segments))
    context, regulariser = module.read(queries, coefficients)
    assert context.isfinite().all()
    assert regulariser.isfinite().all()
    (context / scale).sum().backward()
    assert inputs.grad.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling": "other"}, ", ".join(SAMPLINGS)),
        ({"contraction": 1.0}, "contraction"),
        ({"contraction": 0.0}, "contraction"),
        ({"samples": 7}, "explode"),
        ({"sampling": "sticky_random"}, "generator"),
        ({"generator": torch.Generator()}, "generator"),
        ({"ridge": 0.0}, "ridge"),
        ({"widths": (1.0, 2.0, 3.0)}, "widths"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        attention(**settings)
