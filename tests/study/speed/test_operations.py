"""Counts of operations against the formulas, and speeds against times made up."""

from dataclasses import replace

import pandas as pd
import pytest

from study.speed.operations import achieved, counted, machine_gflops
from study.speed.workload import MODULES, Configuration

KERNEL = Configuration("softmax", scope="kernel", length=64, batch=2, heads=3, head_dim=8, features=16)
ROWS = KERNEL.batch * KERNEL.heads


@pytest.mark.parametrize("mechanism", ["softmax", "explicit_softmax"])
def test_softmax_makes_two_products_of_length_squared(mechanism):
    products = 2 * KERNEL.length**2 * KERNEL.head_dim * ROWS
    assert counted(replace(KERNEL, mechanism=mechanism)) == 2 * products


def test_fused_softmax_recomputes_its_scores():
    products = 2 * KERNEL.length**2 * KERNEL.head_dim * ROWS
    assert counted(replace(KERNEL, direction="training")) == (2 + 5) * products
    assert counted(replace(KERNEL, mechanism="explicit_softmax", direction="training")) == (2 + 4) * products


def test_the_performer_makes_four_products_linear_in_length():
    found = [counted(replace(KERNEL, mechanism="performer", length=length)) for length in (64, 128)]
    products = 2 * KERNEL.length * KERNEL.features * KERNEL.head_dim * ROWS
    assert found[1] == 2 * found[0]
    # Besides the four, the normaliser is a product of features with one column.
    assert 4 * products <= found[0] <= 4 * products + 2 * KERNEL.length * KERNEL.features * ROWS


def test_a_layer_adds_its_projections():
    layer = replace(KERNEL, scope="attention")
    events, width = layer.batch * layer.length, layer.heads * layer.head_dim
    assert counted(layer) - counted(KERNEL) == 2 * events * width * 4 * width


@pytest.mark.parametrize("mechanism", MODULES)
def test_training_a_layer_costs_its_backward_pass_too(mechanism):
    forward = replace(KERNEL, scope="attention", mechanism=mechanism, basis=8, segment=16)
    assert 2 * counted(forward) < counted(replace(forward, direction="training")) < 5 * counted(forward)


def test_the_square_product():
    assert counted(Configuration("square_product", scope="product", length=32)) == 2 * 32**3


def test_speeds_by_hand():
    product = pd.DataFrame({"length": 1000, "metric": "time_ms", "value": [30.0, 20.0, 10.0]})
    # 2e9 operations in 20 ms.
    assert machine_gflops(product) == pytest.approx(100)
    head = {"mechanism": "softmax", "direction": "forward", "length": 256, "operations": 5e7}
    times = {"time_ms": 1.0, "time_ms_low": 0.5, "time_ms_high": 2.0}
    rows = pd.DataFrame([{**head, "metric": metric, "value": value} for metric, value in times.items()])
    found = achieved(rows, 100.0, "07").set_index("metric")["value"]
    assert found["gflops"] == pytest.approx(50)
    assert (found["gflops_low"], found["gflops_high"]) == pytest.approx((25, 100))
    assert found["machine_share"] == pytest.approx(0.5)
    assert found["operations"] == 5e7
