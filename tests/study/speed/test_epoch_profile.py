"""Where an epoch's time goes: every operation is counted once, to the part that it belongs to."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from lib.attention.softmax import SoftmaxAttention
from lib.training import loop
from lib.training.classifier import MECHANISMS, ByteDropout, ModelConfig
from lib.training.loop import TrainConfig
from lib.training.runs import train
from study.speed.epoch_profile import (
    PARTS,
    data_path,
    descendants,
    marked_nodes,
    modules_marked,
    profile_here,
    seconds_by_part,
)

SMALL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16, segment=16, basis=8, features=8)
RECIPE = TrainConfig(batch_size=8, max_events=64)


@pytest.fixture(scope="module")
def events():
    """One step through a linear map, attention, dropout, a linear map, forward and backward, under the profiler."""
    torch.manual_seed(0)
    before, attention = nn.Linear(8, 8), SoftmaxAttention(8, 2)
    after = nn.Sequential(ByteDropout(), nn.Linear(8, 8))
    inputs = torch.randn(2, 16, 8)
    optimizer = torch.optim.AdamW([*before.parameters(), *attention.parameters(), *after.parameters()])
    with modules_marked(), profile(activities=[ProfilerActivity.CPU]) as profiler:
        after(attention(before(inputs)).output).square().sum().backward()
        optimizer.step()
    return sorted(profiler.events(), key=lambda event: event.time_range.start)


def test_the_marks_hold_the_attention_and_leave_nothing_behind(events):
    marks = [event for event in events if event.name == "attention"]
    assert len(marks) == 1
    names = [each.name for each in descendants(marks[0])]
    assert names.count("aten::linear") == 2
    assert sum("scaled_dot_product" in name and "flash" in name for name in names) >= 1
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_backward_is_counted_to_the_module_of_the_forward(events):
    nodes = marked_nodes(events)
    backward = [event for event in events if event.name.startswith("autograd::engine") and event.sequence_nr >= 0]
    names = {"attention": [], "dropout": [], None: []}
    for event in backward:
        names[nodes.get(event.sequence_nr)].append(event.name)
    assert sum("AddmmBackward" in name for name in names["attention"]) == 2
    assert sum("ScaledDotProduct" in name for name in names["attention"]) == 1
    assert len(names["dropout"]) == 1
    assert "MulBackward" in names["dropout"][0]
    assert sum("AddmmBackward" in name for name in names[None]) == 2
    assert any("PowBackward" in name for name in names[None])


def test_every_operation_is_counted_once(events):
    seconds = seconds_by_part(events)
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
    train(histories, customers, SMALL, TrainConfig(batch_size=8, max_events=64, epochs=2), 3, "test")
    trained = np.array(seen).reshape(2, -1, 2).sum(1)
    seen.clear()
    found = data_path(histories, customers, RECIPE, 3, 2)
    assert [[events, places] for _, events, places in found] == trained.tolist()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_shares_of_an_epoch_add_up(histories, mechanism):
    model = ModelConfig(**{**vars(SMALL), "attention": mechanism})
    rows = profile_here(histories, histories.labelled, model, RECIPE, 2)
    for number in (0, 1):
        found = {metric: value for seed, metric, value in rows if seed == number}
        assert sum(found[f"{part}_share"] for part in PARTS) == pytest.approx(1)
        assert all(found[f"{part}_share"] > 0 for part in PARTS if part != "between")
        assert found["events_per_second"] > 0
        assert 0 <= found["padding_share"] < 1
