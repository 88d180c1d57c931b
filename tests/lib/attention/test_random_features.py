"""Every estimator of the softmax kernel is unbiased, where public code is not; directions are as they should be."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.attention.random_features import (
    FEATURE_MAPS,
    KERNELS,
    PROJECTIONS,
    check_kernel,
    draw_projection,
    gaussian_projection,
    kernel_estimate,
    orthogonal_projection,
    rotations,
)

DRAWS = 20_000


def softmax_kernel(query, key):
    """exp(q·k / √d), the truth that the features estimate."""
    return math.exp(query @ key / len(query) ** 0.5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pair_along(direction, sum_square, difference_square):
    """Query and key (unscaled) with x+y along `direction`, and x-y at right angles to it."""
    head_dim = len(direction)
    other = torch.zeros(head_dim, dtype=torch.float64)
    other[0], other[1] = direction[1], -direction[0]
    total = direction / direction.norm() * math.sqrt(sum_square)
    difference = other / other.norm() * math.sqrt(difference_square)
    return (total + difference) / 2 * head_dim**0.25, (total - difference) / 2 * head_dim**0.25


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
    query, key = pair_along(sign * torch.ones(head_dim, dtype=torch.float64), 4.0, 2.0)
    rows = draw_projection(name, DRAWS * head_dim, head_dim, seeded(1)).double().view(DRAWS, head_dim, head_dim)
    truth = softmax_kernel(query, key)
    for kernel in KERNELS:
        samples = vectorised_estimates(kernel, query, key, rows)
        assert abs(standard_errors_from(samples, truth)) < 4, kernel


@pytest.mark.parametrize("kernel", KERNELS)
def test_features_are_the_formulas(kernel):
    query, key = pair_along(torch.ones(8, dtype=torch.float64), 4.0, 2.0)
    rows = orthogonal_projection(80, 8, seeded()).double().view(10, 8, 8)
    features = [[FEATURE_MAPS[kernel](vectors[None], block) for vectors in (query, key)] for block in rows]
    library = torch.stack([kernel_estimate(*pair) for pair in features]).flatten()
    literal = vectorised_estimates(kernel, query, key, rows)
    torch.testing.assert_close(library, literal, rtol=1000 * torch.finfo(torch.float64).eps, atol=0)


def test_the_test_sees_a_missing_sign_correction():
    query, key = pair_along(torch.ones(16, dtype=torch.float64), 4.0, 2.0)
    basis, _ = torch.linalg.qr(torch.randn(DRAWS, 16, 16, generator=seeded(2)))
    rows = basis.transpose(1, 2) * gaussian_projection(DRAWS * 16, 16, seeded(3)).norm(dim=1).view(DRAWS, 16, 1)
    samples = vectorised_estimates("positive", query, key, rows.double())
    assert abs(standard_errors_from(samples, softmax_kernel(query, key))) > 20


def test_fixed_norms_estimate_less_than_the_kernel():
    """Theorem 1 of Choromanski et al. 2021: the regularised kernel never exceeds the softmax kernel."""
    query, key = pair_along(torch.ones(16, dtype=torch.float64), 4.0, 2.0)
    rows = draw_projection("fixed_norm", DRAWS * 16, 16, seeded(1)).double().view(DRAWS, 16, 16)
    truth = softmax_kernel(query, key)
    assert standard_errors_from(vectorised_estimates("hyperbolic", query, key, rows), truth) < -4


@given(st.integers(0, 2**16), st.sampled_from(["orthogonal", "fixed_norm"]), st.integers(2, 9))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_rows_are_orthogonal_within_blocks(seed, name, head_dim):
    rows = draw_projection(name, 2 * head_dim + 1, head_dim, seeded(seed)).double()
    expected = torch.eye(head_dim, dtype=torch.float64)
    rounding = 10 * head_dim * torch.finfo(torch.float32).eps
    for block in (rows[:head_dim], rows[head_dim : 2 * head_dim]):
        unit = block / block.norm(dim=1, keepdim=True)
        torch.testing.assert_close(unit @ unit.T, expected, rtol=0, atol=rounding)


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
    second = independent[:, :, None] * independent[:, None, :]
    for i in range(4):
        for j in range(4):
            assert abs(standard_errors_from(second[:, i, j], float(i == j))) < 4


def test_rotations_are_orthogonal_and_of_both_orientations():
    turns = rotations(1000, 3, seeded()).double()
    identity = torch.eye(3, dtype=torch.float64).expand(1000, 3, 3)
    torch.testing.assert_close(turns @ turns.transpose(1, 2), identity, rtol=0, atol=1e-5)
    assert abs(standard_errors_from((turns.det() > 0).double(), 0.5)) < 4


@pytest.mark.parametrize("features", [1, 3, 4, 11])
@pytest.mark.parametrize("name", PROJECTIONS)
def test_any_number_of_features_reproducibly(name, features):
    rows = draw_projection(name, features, 4, seeded(5))
    assert rows.shape == (features, 4)
    assert torch.equal(rows, draw_projection(name, features, 4, seeded(5)))
    assert not torch.equal(rows, draw_projection(name, features, 4, seeded(6)))


@given(st.integers(0, 2**16), st.sampled_from(sorted(FEATURE_MAPS)), st.floats(0.01, 30))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_features_are_bounded_and_of_one_vector_alone(seed, kernel, scale):
    vectors = scale * torch.randn(1, 6, 8, generator=seeded(seed))
    rows = orthogonal_projection(16, 8, seeded())
    together = FEATURE_MAPS[kernel](vectors, rows)
    alone = FEATURE_MAPS[kernel](vectors[:, 2:3], rows)
    assert together.values.isfinite().all()
    assert together.values.abs().max() <= 1
    logits = (vectors * 8**-0.25).norm(dim=-1).max() * rows.norm(dim=1).max()
    rounding = 8 * torch.finfo(torch.float32).eps * max(1.0, logits.item())
    torch.testing.assert_close(together.values[:, 2:3], alone.values, rtol=0, atol=rounding * (1 + logits.item()))


def test_unknown_names_fail_with_the_known_ones():
    with pytest.raises(ValueError, match=r"known are positive, hyperbolic, trigonometric"):
        check_kernel("elu")
    with pytest.raises(ValueError, match="known are gaussian, orthogonal, fixed_norm"):
        draw_projection("sobol", 4, 4, seeded())
    with pytest.raises(ValueError, match="at least 1"):
        draw_projection("gaussian", 0, 4, seeded())
