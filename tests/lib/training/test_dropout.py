"""Dropout from random bytes: mean and variance, entries independent of each other, and a repeatable draw."""

import pytest
import torch

from lib.training.dropout import ByteDropout, dropout, random_bytes

COUNT = 2**20
# Every statistic below stays within five standard errors, which one draw in two million exceeds.
ERRORS = 5


def kept_by(share: float, seed: int = 0) -> torch.Tensor:
    """Which of many entries are kept, as zeros and ones in double precision."""
    torch.manual_seed(seed)
    return (dropout(torch.ones(COUNT, dtype=torch.float64), share) != 0).double()


@pytest.mark.parametrize("lane", range(8))
def test_every_byte_of_a_draw_is_uniform(lane):
    torch.manual_seed(0)
    counts = random_bytes(COUNT, torch.device("cpu"))[lane::8].long().bincount(minlength=256).double()
    expected = COUNT / 8 / 256
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_squared - 255) < ERRORS * (2 * 255) ** 0.5


@pytest.mark.parametrize(("share", "dropped"), [(0.3, 77), (0.1, 26), (0.5, 128), (0.996, 255)])
def test_share_is_the_nearest_of_256_and_the_mean_is_kept(share, dropped):
    probability = 1 - dropped / 256
    torch.manual_seed(1)
    found = dropout(torch.ones(COUNT, dtype=torch.float64), share)
    assert found.unique().tolist() == pytest.approx([0, 1 / probability])
    variance = (1 - probability) / probability
    assert abs(found.mean() - 1) < ERRORS * (variance / COUNT) ** 0.5
    assert found.var() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 6, 7, 8, 9, 64])
def test_entries_are_independent_within_a_draw_and_between_draws(lag):
    kept = kept_by(0.3) - 179 / 256
    products = kept[lag:] * kept[:-lag]
    assert abs(products.mean()) < ERRORS * (179 / 256 * 77 / 256) / len(products) ** 0.5


def test_gradient_is_the_mask_that_was_used():
    torch.manual_seed(2)
    inputs = torch.randn(3, 5, 7, requires_grad=True)
    outputs = dropout(inputs, 0.5)
    direction = torch.randn_like(outputs)
    outputs.backward(direction)
    factors = (outputs / inputs).detach()
    assert set(factors.round().unique().tolist()) == {0, 2}
    torch.testing.assert_close(inputs.grad, direction * factors)


@pytest.mark.parametrize("shape", [(), (1,), (13,), (3, 5, 7), (2, 0, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_any_shape_and_type(shape, dtype):
    found = dropout(torch.ones(shape, dtype=dtype), 0.5)
    assert found.shape == shape
    assert found.dtype == dtype
    assert set(found.flatten().tolist()) <= {0.0, 2.0}


def test_every_device_draws_its_own():
    devices = ["cpu", "meta", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        assert dropout(torch.ones(9, device=device), 0.5).device.type == device


def test_a_seed_gives_the_same_mask_and_the_next_draw_another():
    assert torch.equal(kept_by(0.3, seed=3), kept_by(0.3, seed=3))
    assert not torch.equal(kept_by(0.3, seed=3), kept_by(0.3, seed=4))
    inputs = torch.ones(64)
    assert not torch.equal(dropout(inputs, 0.5), dropout(inputs, 0.5))


def test_evaluation_and_a_share_of_zero_are_the_identity_and_draw_nothing():
    inputs = torch.randn(4, 5)
    before = torch.get_rng_state()
    assert ByteDropout(0.3).eval()(inputs) is inputs
    assert ByteDropout(0.0)(inputs) is inputs
    assert torch.equal(torch.get_rng_state(), before)
    assert (ByteDropout(0.3)(torch.ones(64)) == 0).any()


@pytest.mark.parametrize("share", [-0.1, 0.999, 1.0])
def test_shares_that_leave_nothing_are_refused(share):
    with pytest.raises(ValueError, match="share dropped"):
        dropout(torch.ones(2), share)
