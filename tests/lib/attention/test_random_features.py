"""Every estimator of the softmax kernel is unbiased, where public code is not; directions are as they should be."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from written_out import seeded

from lib.attention.random_features import (
    FEATURE_MAPS,
    KERNELS,
    PROJECTIONS,
    check_kernel,
    draw_projection,
    kernel_estimate,
)

DRAWS = 20_000


def pair_along(direction, sum_square, difference_square):
    """Query and key (unscaled) with x+y along `direction`, x-y at right angles to it, and exp(q·k / √d)."""
    head_dim = len(direction)
    other = torch.zeros(head_dim, dtype=torch.float64)
    other[0], other[1] = direction[1], -direction[0]
    total = direction / direction.norm() * math.sqrt(sum_square)
    difference = other / other.norm() * math.sqrt(difference_square)
    query, key = (total + difference) / 2 * head_dim**0.25, (total - difference) / 2 * head_dim**0.25
    return query, key, math.exp(query @ key / head_dim**0.5)


def standard_errors_from(samples, truth):
    return ((samples.mean() - truth) / (samples.std() / math.sqrt(len(samples)))).item()


def vectorised_estimates(kernel, query, key, rows):
    """One estimate of the kernel of one pair for each block of directions, as the papers write it."""
    x, y = query * len(query) ** -0.25, key * len(key) ** -0.25
    together, apart, norms = rows @ (x + y), rows @ (x - y), (x.square().sum() + y.square().sum()) / 2
    if kernel == "positive":
        return (together - norms).exp().mean(1)
    if kernel == "hyperbolic":
        return together.cosh().mean(1) * (-norms).exp()
    return apart.cos().mean(1) * norms.exp()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("head_dim", [4, 16])
@pytest.mark.parametrize("name", ["gaussian", "orthogonal"])
def test_estimates_are_unbiased(name, head_dim, sign):
    """At the norms real queries have, with x+y along the ones vector, where missing signs in the QR show."""
    query, key, truth = pair_along(sign * torch.ones(head_dim, dtype=torch.float64), 4.0, 2.0)
    rows = draw_projection(name, DRAWS * head_dim, head_dim, seeded(1)).double().view(DRAWS, head_dim, head_dim)
    for kernel in KERNELS:
        samples = vectorised_estimates(kernel, query, key, rows)
        assert abs(standard_errors_from(samples, truth)) < 4, kernel


@pytest.mark.parametrize("kernel", KERNELS)
def test_features_are_the_formulas(kernel):
    query, key, _ = pair_along(torch.ones(8, dtype=torch.float64), 4.0, 2.0)
    rows = draw_projection("orthogonal", 80, 8, seeded()).double().view(10, 8, 8)
    features = [[FEATURE_MAPS[kernel](vectors[None], block) for vectors in (query, key)] for block in rows]
    library = torch.stack([kernel_estimate(*pair) for pair in features]).flatten()
    literal = vectorised_estimates(kernel, query, key, rows)
    torch.testing.assert_close(library, literal, rtol=1000 * torch.finfo(torch.float64).eps, atol=0)


def test_fixed_norms_estimate_less_than_the_kernel():
    """Theorem 1 of Choromanski et al. 2021: the regularised kernel never exceeds the softmax kernel."""
    query, key, truth = pair_along(torch.ones(16, dtype=torch.float64), 4.0, 2.0)
    rows = draw_projection("fixed_norm", DRAWS * 16, 16, seeded(1)).double().view(DRAWS, 16, 16)
    assert standard_errors_from(vectorised_estimates("hyperbolic", query, key, rows), truth) < -4


@given(st.integers(0, 2**16), st.sampled_from(PROJECTIONS), st.integers(2, 9))
@settings(max_examples=25, derandomize=True)
def test_rows_follow_from_the_generator_and_are_orthogonal_within_blocks(seed, name, head_dim):
    features = 2 * head_dim + 1
    rows = draw_projection(name, features, head_dim, seeded(seed))
    assert rows.shape == (features, head_dim)
    assert torch.equal(rows, draw_projection(name, features, head_dim, seeded(seed)))
    assert not torch.equal(rows, draw_projection(name, features, head_dim, seeded(seed + 1)))
    if name == "gaussian":
        return
    rounding = 10 * head_dim * torch.finfo(torch.float32).eps
    for block in rows[:-1].double().view(2, head_dim, head_dim):
        unit = block / block.norm(dim=1, keepdim=True)
        torch.testing.assert_close(unit @ unit.T, torch.eye(head_dim).double(), rtol=0, atol=rounding)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_rows_have_the_right_length_and_no_direction(name):
    rows = draw_projection(name, DRAWS * 4, 4, seeded()).double()
    squares = rows.square().sum(1)
    if name == "fixed_norm":
        torch.testing.assert_close(squares, torch.full_like(squares, 4), rtol=1e-5, atol=0)
    else:
        assert abs(standard_errors_from(squares.view(-1, 4).mean(1), 4)) < 4
    independent = rows[::4]
    assert all(abs(standard_errors_from(column, 0)) < 4 for column in independent.T)
    for i in range(4):
        for j in range(4):
            assert abs(standard_errors_from(independent[:, i] * independent[:, j], float(i == j))) < 4


@given(st.integers(0, 2**16), st.sampled_from(KERNELS), st.floats(0.01, 30))
@settings(max_examples=40, derandomize=True)
def test_features_are_bounded_and_of_one_vector_alone(seed, kernel, scale):
    vectors = scale * torch.randn(1, 6, 8, generator=seeded(seed))
    rows = draw_projection("orthogonal", 16, 8, seeded())
    together = FEATURE_MAPS[kernel](vectors, rows)
    alone = FEATURE_MAPS[kernel](vectors[:, 2:3], rows)
    assert together.values.abs().max() <= 1  # which no value that is not finite is
    logits = ((vectors * 8**-0.25).norm(dim=-1).max() * rows.norm(dim=1).max()).item()
    rounding = 8 * torch.finfo(torch.float32).eps * max(1.0, logits)
    torch.testing.assert_close(together.values[:, 2:3], alone.values, rtol=0, atol=rounding * (1 + logits))


def test_unknown_names_fail_with_the_known_ones():
    with pytest.raises(ValueError, match=r"known are positive, hyperbolic, trigonometric"):
        check_kernel("elu")
    with pytest.raises(ValueError, match="known are gaussian, orthogonal, fixed_norm"):
        draw_projection("sobol", 4, 4, seeded())
