"""What is swept: each setting alone varies, and the share outside attention is that of the rows."""

from dataclasses import asdict, replace

import pandas as pd
import pytest

from study.speed import sweeps
from study.speed.workload import MODULES, Configuration

BASE = Configuration("softmax", length=512)


def varied(grid):
    """Names of the settings that take more than one value."""
    table = pd.DataFrame([asdict(each) for each in grid])
    return {name for name in table if len(table[name].unique()) > 1}


@pytest.mark.parametrize(
    ("grid", "names"),
    [
        (sweeps.layers([256, 512], BASE), {"length"}),
        (sweeps.encoders([256, 512], BASE, 1), {"length"}),
        (sweeps.widths([16, 32], BASE), {"head_dim"}),
        (sweeps.batches([1, 8], 512, BASE), {"length", "batch"}),
    ],
)
def test_all_mechanisms_and_directions_and_nothing_else_varies(grid, names):
    assert varied(grid) == names | {"mechanism", "direction"}
    assert len(grid) == len(set(grid)) == 2 * 2 * len(MODULES)


def test_the_source_studys_encoders():
    grid = sweeps.source_encoders([256, 512])
    assert varied(grid) == {"length", "mechanism"}
    assert {(each.batch, each.heads * each.head_dim, each.heads, each.layers, each.direction) for each in grid} == {
        (2, 128, 4, 2, "forward")
    }


def test_variants_of_one_mechanism():
    assert varied(sweeps.features([16, 64], BASE)) == {"features", "causal", "direction"}
    assert varied(sweeps.bases([16, 64], BASE)) == {"basis", "sampling", "direction"}


def test_a_batch_holds_the_same_events():
    assert {each.batch * each.length for each in sweeps.batches([1, 4, 8], 512, BASE)} == {512}
    with pytest.raises(ValueError, match="512 events cannot be split into 3"):
        sweeps.batches([3], 512, BASE)


def test_the_layer_of_the_command_line_is_among_the_swept():
    assert set(sweeps.layers([256])) <= set(sweeps.batches([1], 256, sweeps.LAYER))


def test_variants_are_named():
    grid = [*sweeps.features([16], BASE), *sweeps.bases([16], BASE), replace(BASE, sampling="uniform")]
    names = sweeps.named(pd.DataFrame([asdict(each) for each in grid]))["mechanism"]
    assert set(names) == {"performer", "performer_causal", "infinite_former", "infinite_former_uniform", "softmax"}


def test_other_share_by_hand():
    head = {"mechanism": "softmax", "direction": "forward", "length": 256, "layers": 2, "metric": "time_ms"}
    alone = pd.DataFrame([{**head, "round": number, "value": 3.0} for number in range(3)])
    whole = alone.assign(value=[10.0, 12.0, 8.0])
    found = sweeps.other_share(alone, whole, "07").set_index("metric")["value"]
    # Two layers of 3 ms each in 10, 12 and 8 ms.
    assert found["other_share"] == pytest.approx(0.4)
    assert found["other_share_low"] == pytest.approx(0.25)
    assert found["other_share_high"] == pytest.approx(0.5)


def test_no_share_where_a_layer_alone_takes_longer():
    head = {"mechanism": "softmax", "direction": "forward", "layers": 1, "metric": "time_ms"}
    alone = pd.DataFrame([{**head, "length": length, "round": 0, "value": 3.0} for length in (256, 512)])
    found = sweeps.other_share(alone, alone.assign(value=[6.0, 2.0]), "07")
    assert set(found["x"]) == {256}
