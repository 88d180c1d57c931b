"""What is measured: every mechanism in every scope runs and, in training, gives all gradients."""

from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch

from study.speed.workload import MODULES, SCOPES, Configuration, build, grid, prepare

TINY = {"length": 48, "batch": 2, "heads": 2, "head_dim": 4, "features": 8, "basis": 8, "segment": 16}
every = pytest.mark.parametrize("mechanism", MODULES)
each_scope = pytest.mark.parametrize("scope", SCOPES)


@every
@each_scope
def test_forward_has_no_gradient_and_training_has_all(scope, mechanism):
    configuration = Configuration(mechanism, scope=scope, **TINY)
    output = prepare(configuration)()
    assert output.isfinite().all()
    assert not output.requires_grad
    gradients = prepare(replace(configuration, direction="training"))()
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@every
@each_scope
def test_everything_is_made_on_the_device_asked_for(scope, mechanism):
    # The meta device computes shapes only, and refuses to meet a tensor of the processor.
    layer, events = build(Configuration(mechanism, scope=scope, device="meta", **TINY))
    assert {each.device.type for each in (events, *layer.parameters(), *layer.buffers())} == {"meta"}
    if mechanism in ("softmax", "explicit_softmax"):
        assert layer(events)[0].device.type == "meta"


def test_a_causal_layer_does_not_look_ahead():
    layer, events = build(Configuration("performer", causal=True, **TINY))
    torch.testing.assert_close(layer(events).output[:, :20], layer(events[:, :20]).output)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mechanism": "quadratic"},
        {"scope": "layer"},
        {"direction": "backward"},
        {"scope": "encoder", "causal": True},
    ],
)
def test_what_cannot_be_measured_is_refused(wrong):
    with pytest.raises(ValueError, match=r"known|scope attention only"):
        Configuration(**{"mechanism": "softmax", **wrong})


def test_a_grid_holds_every_combination_once_and_varies_nothing_else():
    calls = grid(Configuration("softmax", batch=2), length=[256, 512], mechanism=MODULES)
    table = pd.DataFrame([asdict(each) for each in calls])
    assert len(set(calls)) == len(calls) == 2 * len(MODULES)
    assert {name for name in table if len(set(table[name])) > 1} == {"length", "mechanism"}
