"""The command line's grids and goals, on rows made up with known ratios."""

from dataclasses import asdict

import pandas as pd
import pytest

from study.speed.benchmark import GOALS, encoders, goals, kernel, kernels, side_by_side
from study.speed.workload import KERNELS


def rows_of(values):
    """Measured rows from configuration and metric to value."""
    return pd.DataFrame(
        [{**asdict(each), "round": 0, "metric": metric, "value": value} for (each, metric), value in values.items()]
    )


def test_kernels_cover_every_mechanism_direction_and_width():
    grid = kernels([512, 4096])
    assert len(grid) == len(set(grid))
    plain = [each for each in grid if each.scope == "kernel" and not each.causal]
    assert {(each.mechanism, each.direction, each.length, each.head_dim) for each in plain} == {
        (mechanism, direction, length, head_dim)
        for mechanism in KERNELS
        for direction in ("forward", "training")
        for length in (512, 4096)
        for head_dim in (16, 64)
    }
    assert all((each.batch, each.heads, each.features, each.threads) == (4, 4, 256, 1) for each in plain)


def test_every_goal_is_about_something_measured():
    grid = set(kernels([4096]))
    for _, ours, theirs, head_dim, causal, _, _ in GOALS:
        assert {kernel(each, "training", 4096, head_dim, causal) for each in (ours, theirs)} <= grid


def test_encoders_are_the_source_studys():
    grid = encoders([256, 512])
    assert {(each.batch, each.heads * each.head_dim, each.heads, each.layers, each.direction) for each in grid} == {
        (2, 128, 4, 2, "forward")
    }


def test_goals_by_hand():
    ours, peer, bare = (
        kernel(each, "training", 4096, 64, False) for each in ("performer", "performer_pytorch", "matrix_products")
    )
    values = {
        (ours, "time_ms"): 30.0,
        (peer, "time_ms"): 120.0,
        (bare, "time_ms"): 15.0,
        (ours, "peak_memory_mib"): 9.0,
    }
    table = goals(rows_of(values)).set_index(["against", "metric"])
    assert table.loc[("performer_pytorch", "time_ms"), "ratio"] == pytest.approx(0.25)
    assert table.loc[("performer_pytorch", "time_ms"), "met"]
    assert table.loc[("matrix_products", "time_ms"), "ratio"] == pytest.approx(2)
    assert not table.loc[("matrix_products", "time_ms"), "met"]
    assert len(table) == 2


def test_side_by_side_keeps_skips():
    configuration = kernel("explicit_softmax", "training", 4096, 64, False)
    table = side_by_side(rows_of({(configuration, "skipped_memory"): 1e10, (configuration, "time_ms_low"): 1.0}))
    assert table.index.get_level_values("metric").tolist() == ["skipped_memory"]
