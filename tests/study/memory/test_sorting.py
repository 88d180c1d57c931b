from collections import Counter
from dataclasses import replace

import pytest
import torch

from lib.attention.infinite_former import MemorySettings
from study.memory.sorting import Sorter, SortingConfig, evaluate, sequences, sorting_rows, train_sorter

TINY = SortingConfig(length=32, symbols=4, segment=16, basis=8, model_dim=8, heads=2, steps=3, batch=4, test=8)
MEMORIES = ("uniform", "sticky", "even", "bins", "segment", "everything")


def test_targets_are_symbols_by_count():
    tokens, targets = sequences(20, 12, 6, torch.Generator().manual_seed(0))
    for sequence, target in zip(tokens.tolist(), targets.tolist(), strict=True):
        # Counter lists equal counts in order of first occurrence.
        literal = [symbol for symbol, _ in Counter(sequence).most_common()]
        assert target == literal + sorted(set(range(6)) - set(literal))


def test_probabilities_drift_from_one_distribution_to_another():
    tokens, _ = sequences(400, 64, 3, torch.Generator().manual_seed(1))
    halves = torch.nn.functional.one_hot(tokens, 3).float().unflatten(1, (2, 32)).mean(2)
    # Each half's frequencies differ by more than counting noise: variance p (1 - p) / 32 each, twice, at most 1/64.
    assert (halves[:, 0] - halves[:, 1]).square().mean() > 1 / 64


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_history_is_seen_through_the_memory_alone(memory):
    torch.manual_seed(0)
    model = Sorter(replace(TINY, memory=memory))
    tokens, target = sequences(2, 32, 4, torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, :8] = (changed[:, :8] + 1) % 4
    difference = (model(changed, target)[0] - model(tokens, target)[0]).abs().max()
    assert (difference > 0) == (memory != "segment")
    # What comes later in the answer is not seen.
    swapped = target.clone()
    swapped[:, 2:] = target[:, 2:].flip(1)
    assert torch.allclose(model(tokens, swapped)[0][:, :3], model(tokens, target)[0][:, :3], atol=1e-5)


def test_training_is_repeatable_and_learns():
    config = replace(TINY, memory="everything", model_dim=16, steps=60, batch=32, test=256)
    first, again = train_sorter(config, 0), train_sorter(config, 0)
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), again.parameters(), strict=True))
    # Ruling out the symbols already given leaves (1/4 + 1/3 + 1/2 + 1) / 4 right by chance; 1024 answers.
    chance = (1 / 4 + 1 / 3 + 1 / 2 + 1) / 4
    assert evaluate(first, 0)["accuracy"] > chance + 4 * (chance * (1 - chance) / 1024) ** 0.5


def test_histories_must_fill_their_segments():
    for wrong in ({"length": 33}, {"symbols": 20}):
        with pytest.raises(ValueError, match="fill"):
            Sorter(replace(TINY, **wrong))


def test_rows_of_accuracy_and_deviation():
    tasks = [("none", 16.0, replace(TINY, memory="segment", length=16))]
    tasks += [
        (name, 0.0, replace(TINY, steps=1, memory=MemorySettings(8, 16, samples=16, initial_widths=(width, width))))
        for name, width in (("narrow", 0.05), ("wide", 0.8))
    ]
    rows = sorting_rows(tasks, 2)
    assert rows[rows["metric"] == "accuracy"].groupby("name")["value"].agg(lambda v: v.between(0, 1).sum()).eq(2).all()
    # The start is the value at logits without content, which an untrained map of unit embeddings moves by less than 1.
    widths = rows[rows["metric"] == "deviation"].groupby("name")["value"].mean()
    assert widths.to_dict() == {"narrow": pytest.approx(0.05, rel=0.5), "wide": pytest.approx(0.8, rel=0.5)}
