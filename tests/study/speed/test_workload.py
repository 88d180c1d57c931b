"""What is measured: every mechanism in every scope runs and, in training, gives all gradients."""

from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch

from lib.attention.performer import favor_attention
from lib.attention.softmax import softmax_attention
from study.speed.workload import (
    MODULES,
    SCOPES,
    Configuration,
    drawn_projection,
    grid,
    kernel_call,
    layer_call,
    prepare,
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


def test_kernels_compute_what_they_are_named_for():
    configuration = Configuration("softmax", scope="kernel", **TINY)
    attend, given = kernel_call(configuration)
    fused = attend().output
    assert torch.equal(fused, softmax_attention(*given))
    naive = kernel_call(replace(configuration, mechanism="explicit_softmax"))[0]().output
    # A softmax over 48 keys in single precision: some 48 roundings of at most 2⁻²⁴ each, of numbers of order one.
    torch.testing.assert_close(naive, fused, atol=48 * 2.0**-24 * 4, rtol=0)
    performer = replace(configuration, mechanism="performer", causal=True)
    expected = favor_attention(*given, drawn_projection(performer), causal=True)
    assert torch.equal(kernel_call(performer)[0]().output, expected)


@pytest.mark.parametrize(("scope", "mechanism"), OURS)
def test_everything_is_made_on_the_device_asked_for(scope, mechanism):
    # The meta device computes shapes only, and refuses to meet a tensor of the processor.
    configuration = Configuration(mechanism, scope=scope, direction="training", device="meta", **TINY)
    attend, leaves = (kernel_call if scope == "kernel" else layer_call)(configuration)
    assert {leaf.device.type for leaf in leaves} == {"meta"}
    if mechanism in ("softmax", "explicit_softmax"):
        assert attend()[0].device.type == "meta"


@pytest.mark.parametrize(
    "wrong",
    [{"mechanism": "quadratic"}, {"scope": "layer"}, {"direction": "backward"}, {"causal": True}],
)
def test_what_cannot_be_measured_is_refused(wrong):
    with pytest.raises(ValueError, match=r"known|kernel only"):
        Configuration(**{"mechanism": "softmax", **wrong})


def test_a_grid_holds_every_combination_once_and_varies_nothing_else():
    calls = grid(Configuration("softmax", batch=2), length=[256, 512], mechanism=MODULES)
    table = pd.DataFrame([asdict(each) for each in calls])
    assert len(set(calls)) == len(calls) == 2 * len(MODULES)
    assert {name for name in table if len(set(table[name])) > 1} == {"length", "mechanism"}
