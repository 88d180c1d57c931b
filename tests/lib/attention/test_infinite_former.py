import math

import numpy as np
import pytest
import torch

from lib.attention.continuous_memory import basis_values
from lib.attention.infinite_former import PUBLISHED_SAMPLINGS, SAMPLINGS, InfiniteFormerAttention, MemorySettings
from lib.storage import ROOT
from lib.training.classifier import ModelConfig, build_attention

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


@pytest.mark.parametrize("basis", [16, 128])
def test_start_is_the_same_for_every_number_of_functions(basis):
    """Logits of a first segment of independent events, enough to resolve the functions, deviate by π / √3."""
    variances, settings = [], MemorySettings(basis, segment=4 * basis, samples=basis)
    for seed in range(20):
        torch.manual_seed(seed)
        module = InfiniteFormerAttention(64, 2, settings)
        with torch.no_grad():
            module.affine_bias.zero_()
            _, memory = module.step(events(4, 4 * basis, 64, seed))
            queries = module.project(events(4, 32, 64, 100 + seed))[0]
            variances.append(module.density(queries, memory.coefficients).mean.logit().var())
    variances = torch.stack(variances)
    error = variances.std() / len(variances) ** 0.5
    assert abs(variances.mean() - math.pi**2 / 3) <= 4 * error


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


# Arrays in double precision from deep-spin/infinite-former's long-term attention for GPT-2: uniform sampling, KL on.
OFFICIAL = np.load(ROOT / "tests/data/infinite_former_official.npz")


@pytest.mark.parametrize("example", ["a", "b"])
def test_published_memory_is_that_of_the_authors_code(example):
    given = {name[2:]: torch.from_numpy(OFFICIAL[name]) for name in OFFICIAL if name.startswith(example)}
    numbers = {name: given[name].item() for name in ("basis", "segment", "samples", "contraction", "ridge")}
    widths = tuple((given["deviations"] * (len(given["centres"]) - 1)).tolist())
    settings = MemorySettings.published(widths=widths, prior_width=given["prior_width"].item(), **numbers)
    module = InfiniteFormerAttention(given["X"].shape[2], given["heads"].item(), settings).double()
    with torch.no_grad():
        for own, official in (("keys", "proj_key"), ("values", "proj_value"), ("projection", "attn_out")):
            getattr(module, f"memory_{own}").weight.copy_(given[f"{official}.weight"])
        module.affine_weight.copy_(torch.stack([given["mu.weight"], given["sigma.weight"]]))
    inputs = given["X"].requires_grad_()
    coefficients = module.empty_memory(len(inputs)).coefficients
    for call, (queries, events) in enumerate(zip(given["Q"], inputs.split(settings.segment, 1), strict=True)):
        real = torch.ones(events.shape[:2], dtype=torch.bool)
        coefficients = module.write(coefficients, queries, events, real, module.whole_update(call))
        context, divergence = module.read(queries, coefficients)
        found = {"coefficients": coefficients, "regulariser": divergence.mean()}
        found["outputs"] = module.memory_projection(context.transpose(1, 2).flatten(2))
        for name, value in found.items():
            expected = given[name][call]
            # The official places are in single precision.
            assert (value - expected).abs().max() <= 1e-6 * expected.abs().max(), name
    assert not coefficients.requires_grad  # the authors' memory trains nothing that was written into it


def test_published_start_is_one_linear_map_for_all_heads():
    module = InfiniteFormerAttention(16, 2, MemorySettings.published(basis=64))
    assert module.affine_weight.shape == (2, 1, 64)
    assert module.affine_bias is None
    assert module.affine_weight.abs().max() <= 64**-0.5
    empty = module.density(torch.zeros(1, 2, 1, 8), torch.zeros(1, 64, 16))
    assert empty.mean.eq(0.5).all()
    assert torch.allclose(empty.variance, torch.full((1, 2, 1), math.log(2)))


@pytest.mark.parametrize("sampling", [*SAMPLINGS, *PUBLISHED_SAMPLINGS])
def test_every_sampling_can_be_chosen_in_a_model_config(sampling):
    config = ModelConfig(attention="infinite_former", model_dim=16, basis=8, segment=16, samples=16, sampling=sampling)
    module = build_attention(config, torch.Generator().manual_seed(0))
    assert module.settings == MemorySettings.named(sampling, basis=8, segment=16, samples=16)
    assert module.settings.right_ends == sampling.startswith("published")
    assert module(events(2, 40)).output.isfinite().all()
