"""Where an epoch's time goes: every operation is counted once, to the part that it belongs to."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from lib import data, train
from lib.attention.softmax import SoftmaxAttention
from lib.speed.epoch_profile import (
    MARK,
    PARTS,
    attention_marked,
    attention_nodes,
    data_path,
    descendants,
    profile_here,
    seconds_by_part,
)
from lib.train import TrainConfig
from lib.training.model import ModelConfig

SMALL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16, segment=16, basis=8, features=8)
RECIPE = TrainConfig(batch_size=8, max_events=64)


@pytest.fixture(scope="module")
def events():
    """One step through a linear map, an attention, and a linear map, forward and backward, under the profiler."""
    torch.manual_seed(0)
    before, attention = nn.Linear(8, 8), SoftmaxAttention(8, 2)
    after = nn.Sequential(nn.Dropout(), nn.Linear(8, 8))
    inputs = torch.randn(2, 16, 8)
    optimizer = torch.optim.AdamW([*before.parameters(), *attention.parameters(), *after.parameters()])
    with attention_marked(), profile(activities=[ProfilerActivity.CPU]) as profiler:
        after(attention(before(inputs)).output).square().sum().backward()
        optimizer.step()
    return sorted(profiler.events(), key=lambda event: event.time_range.start)


def test_the_marks_hold_the_attention_and_leave_nothing_behind(events):
    marks = [event for event in events if event.name == MARK]
    assert len(marks) == 1
    names = [each.name for each in descendants(marks[0])]
    assert names.count("aten::linear") == 2
    assert sum("scaled_dot_product" in name and "flash" in name for name in names) >= 1
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_the_backward_of_the_attention_is_found_and_no_other(events):
    nodes = attention_nodes(events)
    backward = [event for event in events if event.name.startswith("autograd::engine") and event.sequence_nr >= 0]
    inside = [event.name for event in backward if event.sequence_nr in nodes]
    outside = [event.name for event in backward if event.sequence_nr not in nodes]
    assert sum("AddmmBackward" in name for name in inside) == 2
    assert sum("ScaledDotProduct" in name for name in inside) == 1
    assert sum("AddmmBackward" in name for name in outside) == 2
    assert any("PowBackward" in name for name in outside)


def test_every_operation_is_counted_once(events):
    seconds = seconds_by_part(events)
    assert all(value > 0 for value in seconds.values())
    roots = sum(event.cpu_time_total for event in events if event.cpu_parent is None)
    # Times are kept in whole nanoseconds, and each of the events loses less than one.
    assert sum(seconds.values()) == pytest.approx(roots / 1e6, abs=len(events) * 1e-9)


def test_data_path_makes_the_batches_of_the_training(histories, monkeypatch):
    customers, seen = histories.labelled, []
    collate = data.collate

    def counted(*arguments):
        batch = collate(*arguments)
        seen.append((int(batch.key_mask.sum()), batch.key_mask.numel()))
        return batch

    monkeypatch.setattr(data, "collate", counted)
    train.train(histories, customers, SMALL, train.TrainConfig(batch_size=8, max_events=64, epochs=2), 3, "test")
    trained = np.array(seen).reshape(2, -1, 2).sum(1)
    seen.clear()
    found = data_path(histories, customers, RECIPE, 3, 2)
    assert [[events, places] for _, events, places in found] == trained.tolist()


@pytest.mark.parametrize("mechanism", train.MECHANISMS)
def test_shares_of_an_epoch_add_up(histories, mechanism):
    model = ModelConfig(**{**vars(SMALL), "attention": mechanism})
    rows = profile_here(histories, histories.labelled, model, RECIPE, 2)
    for number in (0, 1):
        found = {metric: value for seed, metric, value in rows if seed == number}
        assert sum(found[f"{part}_share"] for part in PARTS) == pytest.approx(1)
        assert all(found[f"{part}_share"] > 0 for part in PARTS if part != "between")
        assert found["events_per_second"] > 0
        assert 0 <= found["padding_share"] < 1
