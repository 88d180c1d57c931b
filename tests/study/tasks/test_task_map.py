from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from lib import storage
from study.tasks import map_figures, streams, task_map


def trial(task="recall_content", network="softmax", lengths=(32, 64), steps=3, seed=0, **others):
    settings = {"growth": 0.5, "events": 128, "answers": 64} | others
    return task_map.Trial(task, network, task_map.network(network, 32), lengths, steps, seed=seed, **settings)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "MEASUREMENTS", tmp_path)


def test_networks_are_named_for_what_they_are():
    names = ("hyperbolic_16", "sticky_16", "bins_8", "gru")
    hyperbolic, sticky, bins, gru = (task_map.network(name, 32) for name in names)
    assert (hyperbolic.attention, hyperbolic.features, hyperbolic.kernel) == ("performer", 16, "hyperbolic")
    assert (sticky.basis, sticky.samples, sticky.sampling, sticky.segment) == (16, 32, "sticky", 32)
    assert (bins.attention, bins.basis, gru.attention) == ("binned_memory", 8, "gru")


@pytest.mark.parametrize("network", ["none", "local_softmax", "softmax", "even_16"])
def test_only_what_attends_to_the_past_depends_on_it(network):
    task, history = streams.TASKS["recall_content"], streams.recall_content(np.random.default_rng(0), 2, 64)
    torch.manual_seed(0)
    model = task_map.Network(task, task_map.network(network, 32), torch.Generator().manual_seed(0)).eval()
    other = history._replace(categories=history.categories.copy())
    other.categories[:, 3] = 1  # in the first segment
    with torch.no_grad():
        assert (model(history)[0] != model(other)[0]).any() == (network in ("softmax", "even_16"))


def test_training_begins_with_the_shortest(monkeypatch):
    lengths, task = [], streams.TASKS["order"]
    follow = task._replace(draw=lambda rng, size, length: lengths.append(length) or task.draw(rng, size, length))
    monkeypatch.setitem(task_map.TASKS, "order", follow)
    task_map.train(trial("order", "none", (16, 32, 64), 24))
    assert set(lengths[:4]) == {16}
    assert 64 not in lengths[:8]
    assert lengths.count(64) >= 6


def test_softmax_learns_to_recall():
    """After a hundred steps it knows most of sixteen pairs, where guessing knows an eighth."""
    learnt = trial(lengths=(32,), steps=120, events=1024)
    rows = task_map.test(task_map.train(learnt), learnt)
    assert rows.loc[rows["axis"] == "length", "value"].item() > 0.6


def test_rows_are_kept_by_configs_and_repeat_where_a_network_draws(capsys):
    noisy = replace(trial(), config=replace(trial().config, dropout=0.5))
    first = task_map.run_or_load(noisy)
    assert sorted(first["axis"].unique()) == ["distance", "final", "length"]
    pd.testing.assert_frame_equal(task_map.run_or_load(noisy), first)
    (file,) = (storage.MEASUREMENTS / "local" / "tasks").iterdir()
    assert task_map.stored_at(trial(seed=1)) != task_map.stored_at(trial(steps=4)) != file
    file.write_bytes(file.read_bytes()[:-9])
    again = task_map.run_or_load(noisy)
    assert "damaged" in capsys.readouterr().err
    measured = first["metric"] != "cpu_seconds"
    pd.testing.assert_frame_equal(again[measured], first[measured])


def test_a_process_of_its_own_gives_the_same_rows():
    trials = [trial("counts", "none", (32,)), trial("order", "none", (16,))]
    rows = task_map.measure(trials, 1)
    assert set(rows["metric"]) == {"accuracy", "bayes_accuracy", "cpu_seconds"}
    alone = pd.concat([task_map.test(task_map.train(each), each) for each in trials])
    np.testing.assert_allclose(rows.loc[rows["metric"] != "cpu_seconds", "value"], alone["value"])


def test_figures_show_every_network():
    names = ("softmax", "performer_16", "performer_64", "none")
    rows = pd.concat(pd.DataFrame({"x": [32, 64], "value": 0.5, "model": name}) for name in names)
    rows, levels = rows.assign(task="recall_content", axis="length", split="bare"), pd.Series(0.1, map_figures.TITLES)
    fig = map_figures.map_figure(rows.rename(columns={"value": "accuracy"}), levels, levels)
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert labels == ["softmax", "Performer (16)", "Performer (64)", "no attention"]
    sweep = map_figures.sweep_figure(rows, {32: 1.0, 64: 0.4})
    assert [text.get_text() for text in sweep.legends[0].get_texts()] == labels
    plt.close("all")
