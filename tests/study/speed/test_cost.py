"""What training costs, and that every operation of an epoch is counted once, to the part that it belongs to."""

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier
from torch import nn
from torch.profiler import ProfilerActivity, profile

from lib.attention.softmax import SoftmaxAttention
from lib.training import loop
from lib.training.classifier import ByteDropout, ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import train
from study.speed import cost

SMALL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16)
RECIPE = TrainConfig(batch_size=24, max_events=64)


class HoldsWhileFitting(DummyClassifier):
    """Needs 64 MiB to fit, and keeps nothing."""

    def fit(self, table, labels):
        np.ones(64 * 2**20, np.uint8)
        return super().fit(table, labels)


def test_memory_of_a_fit_is_what_the_fit_needs():
    found = cost.fitting_cost(HoldsWhileFitting(), np.zeros((4, 1)), np.array([0, 1, 0, 1]))
    assert found["epoch_seconds"] > 0
    # Linux counts a process's pages in batches; the reading error is below 1 MiB on up to 64 cores of 4 KiB pages.
    assert abs(found["peak_memory_mib"] - 64) < 1


def test_training_cost_counts_all_that_a_step_holds(histories):
    found = cost.training_cost(histories, histories.labelled, SMALL, RECIPE)
    assert found["epoch_seconds"] > 0
    # At least the embedded events of the one batch, in single precision; all histories of the set have at most 60.
    assert found["peak_memory_mib"] * 2**20 > 24 * histories.lengths.max() / 2 * 16 * 4


@pytest.fixture(scope="module")
def events():
    """One step through a linear map, attention, dropout, a linear map, forward and backward, under the profiler."""
    torch.manual_seed(0)
    before, attention = nn.Linear(8, 8), SoftmaxAttention(8, 2)
    after = nn.Sequential(ByteDropout(), nn.Linear(8, 8))
    inputs = torch.randn(2, 16, 8)
    optimizer = torch.optim.AdamW([*before.parameters(), *attention.parameters(), *after.parameters()])
    with cost.modules_marked(), profile(activities=[ProfilerActivity.CPU]) as profiler:
        after(attention(before(inputs)).output).square().sum().backward()
        optimizer.step()
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks
    return profiler.events()


def test_forward_and_backward_are_counted_to_their_module(events):
    nodes = cost.marked_nodes(events)
    inside = [event.name for event in events if "attention" in [caller.name for caller in cost.callers(event)]]
    assert inside.count("aten::linear") == 2
    backward = [event for event in events if event.name.startswith("autograd::engine") and event.sequence_nr >= 0]
    names = {"attention": [], "dropout": [], None: []}
    for event in backward:
        names[nodes[event.sequence_nr]].append(event.name)
    assert sum("AddmmBackward" in name for name in names["attention"]) == 2
    assert sum("ScaledDotProduct" in name for name in names["attention"]) == 1
    assert len(names["dropout"]) == 1
    assert "MulBackward" in names["dropout"][0]
    assert sum("AddmmBackward" in name for name in names[None]) == 2
    assert any("PowBackward" in name for name in names[None])


def test_every_operation_is_counted_once(events):
    seconds = cost.seconds_by_part(events)
    assert all(value > 0 for value in seconds.values())
    roots = sum(event.cpu_time_total for event in events if event.cpu_parent is None)
    # Times are kept in whole nanoseconds, and each of the events loses less than one.
    assert sum(seconds.values()) == pytest.approx(roots / 1e6, abs=len(events) * 1e-9)


def test_data_path_makes_the_batches_of_the_training(histories, monkeypatch):
    customers, seen = histories.labelled, []
    collate = loop.collate

    def counted(*arguments):
        batch = collate(*arguments)
        seen.append((int(batch.key_mask.sum()), batch.key_mask.numel()))
        return batch

    monkeypatch.setattr(loop, "collate", counted)
    recipe = TrainConfig(batch_size=8, max_events=64, epochs=2)
    train(histories, customers, SMALL, recipe, 3, "test")
    trained = np.array(seen).reshape(2, -1, 2).sum(1)
    found = cost.data_path(histories, customers, recipe, 3, 2)
    assert [[events, places] for _, events, places in found] == trained.tolist()


def test_shares_of_an_epoch_add_up(histories):
    rows = cost.profile_here(histories, histories.labelled, SMALL, RECIPE, 2)
    for number in (0, 1):
        found = {metric: value for seed, metric, value in rows if seed == number}
        assert sum(found[f"{part}_share"] for part in cost.PARTS) == pytest.approx(1)
        assert all(found[f"{part}_share"] > 0 for part in cost.PARTS if part != "between")
        assert found["events_per_second"] > 0
        assert 0 <= found["padding_share"] < 1
