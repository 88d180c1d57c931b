"""Every task's answer can be found in the history, in the way that its name says and in no other."""

import numpy as np
import pytest

from study.tasks import streams


def drawn(name, size=400, length=64, seed=0):
    return streams.TASKS[name].draw(np.random.default_rng(seed), size, length)


@pytest.mark.parametrize("name", streams.TASKS)
def test_batches_fit_the_task_and_follow_from_the_seed(name):
    task, batch = streams.TASKS[name], drawn(name, 50)
    assert [part.shape for part in batch[:3]] == [(50, 64, 2), (50, 64, 1), (50, 64)]
    assert (batch.categories.reshape(-1, 2).max(0) < task.cardinalities).all()
    assert min(batch.categories.min(), batch.days.min()) >= 0
    assert batch.answers.shape == (50, max(1, task.asked))
    assert set(np.unique(batch.answers)) == set(range(task.classes))
    assert (drawn(name, 50).categories == batch.categories).all()
    assert (drawn(name, 50, seed=1).categories != batch.categories).any()


@pytest.mark.parametrize("name", ["recall_content", "recall_time"])
def test_content_or_time_tells_the_class(name):
    """The merchant, or the age, that is asked for occurs once before, at the distance, with the answer as its class."""
    batch, past = drawn(name, 20), 64 - streams.ASKED
    merchants, classes = batch.categories[..., 0], batch.categories[..., 1]
    known = merchants if name == "recall_content" else batch.days
    assert (classes[:, past:] == 0).all()
    for row in range(20):
        for asks in range(streams.ASKED):
            (place,) = np.flatnonzero(known[row, :past] == known[row, past + asks])
            assert classes[row, place] == 1 + batch.answers[row, asks]
            assert batch.distances[row, asks] == past + asks - place
    if name == "recall_time":
        changes = np.flatnonzero(np.diff(classes[0, :past])) + 1
        assert len(set(changes % streams.PERSISTENCE)) == 1
        assert (merchants[:, :past] == 1).all()


def test_order_has_the_log_odds_of_two_markov_chains():
    """Both chains have the uniform distribution as stationary one; the second is the first, backwards in time."""
    chain = np.full((streams.CODES, streams.CODES), (1 - streams.STEP) / streams.CODES)
    chain += streams.STEP * np.roll(np.eye(streams.CODES), 1, axis=1)
    np.testing.assert_allclose(chain.sum(0), 1)
    batch = drawn("order", 30)
    code = batch.categories[..., 0] - 1
    for row in range(30):
        on, back = (np.log(each[code[row, :-1], code[row, 1:]]).sum() for each in (chain, chain.T))
        assert batch.log_odds[row] == pytest.approx(back - on)


def test_order_cannot_be_told_from_counts():
    """Means over histories of each code's count, within four standard errors between the kinds."""
    batch = drawn("order", 2000)
    counts = (batch.categories[..., :1] == np.arange(1, streams.CODES + 1)).sum(1)
    on, back = counts[batch.answers[:, 0] == 0], counts[batch.answers[:, 0] == 1]
    error = np.sqrt(on.var(0) / len(on) + back.var(0) / len(back))
    assert (np.abs(on.mean(0) - back.mean(0)) < 4 * error).all()
