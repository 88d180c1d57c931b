"""What is measured: every mechanism in every scope runs and, in training, gives all gradients."""

from dataclasses import replace

import pytest
import torch

from lib.attention.performer import favor_attention
from lib.attention.softmax import softmax_attention
from study.speed.workload import (
    SCOPES,
    Configuration,
    drawn_projection,
    kernel_call,
    layer_call,
    prepare,
    small,
)

TINY = {"length": 48, "batch": 2, "heads": 2, "head_dim": 4, "features": 8, "basis": 8, "segment": 16}
OURS = [(scope, mechanism) for scope, known in SCOPES.items() for mechanism in known]


@pytest.mark.parametrize(("scope", "mechanism"), OURS)
def test_forward_has_no_gradient_and_training_has_all(scope, mechanism):
    configuration = Configuration(mechanism, scope=scope, **TINY)
    output = prepare(configuration)()
    assert output.isfinite().all()
    assert not output.requires_grad
    gradients = prepare(replace(configuration, direction="training"))()
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("mechanism", SCOPES["encoder"])
def test_mixed_precision_runs(mechanism):
    configuration = Configuration(mechanism, scope="encoder", direction="training", dtype="bfloat16", **TINY)
    assert all(gradient.isfinite().all() for gradient in prepare(configuration)())


def test_kernels_compute_what_they_are_named_for():
    configuration = Configuration("softmax", scope="kernel", **TINY)
    call = kernel_call(configuration)
    assert torch.equal(call.forward()[0], softmax_attention(*call.leaves))
    explicit = kernel_call(replace(configuration, mechanism="explicit_softmax"))
    # A softmax over 48 keys in single precision: some 48 roundings of at most 2⁻²⁴ each, of numbers of order one.
    torch.testing.assert_close(explicit.forward()[0], call.forward()[0], atol=48 * 2.0**-24 * 4, rtol=0)
    performer = replace(configuration, mechanism="performer", causal=True)
    expected = favor_attention(*call.leaves, drawn_projection(performer), causal=True)
    assert torch.equal(kernel_call(performer).forward()[0], expected)


def test_the_same_seed_gives_the_same_inputs_and_another_seed_others():
    configuration = Configuration("softmax", **TINY)
    first, again, other = (prepare(replace(configuration, seed=seed))() for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("scope", "mechanism"), OURS)
def test_everything_is_made_on_the_device_asked_for(scope, mechanism):
    # The meta device computes shapes only, and refuses to meet a tensor of the processor.
    configuration = Configuration(mechanism, scope=scope, direction="training", device="meta", **TINY)
    call = (kernel_call if scope == "kernel" else layer_call)(configuration)
    assert {leaf.device.type for leaf in call.leaves} == {"meta"}
    if mechanism in ("softmax", "explicit_softmax"):
        assert call.forward()[0].device.type == "meta"


def test_small_walks_two_segments_and_never_more_than_asked():
    assert small(Configuration("softmax", length=4096, segment=128)).length == 256
    assert small(Configuration("softmax", length=64, segment=128)).length == 64


@pytest.mark.parametrize(
    "wrong",
    [{"mechanism": "quadratic"}, {"scope": "layer"}, {"direction": "backward"}, {"dtype": "float16"}, {"causal": True}],
)
def test_what_cannot_be_measured_is_refused(wrong):
    with pytest.raises(ValueError, match=r"known|kernel only"):
        Configuration(**{"mechanism": "softmax", **wrong})


def test_matrix_bytes_by_hand():
    assert Configuration("softmax", batch=2, heads=3, length=10).matrix_bytes == 2 * 3 * 100 * 4
