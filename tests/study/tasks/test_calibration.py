"""The generative model restates the facts it was built from."""

import numpy as np
import pytest

from study.tasks.calibration import build, facts, numbers


@pytest.fixture(scope="module")
def model():
    return build()


def test_pairs_have_the_events_counted_and_the_codes_margins(model):
    """Products of less than two events are left out: together under a hundredth, and no code lacks more than that."""
    assert set(model.pairs["mcc_code"]) == set(facts("mcc_codes")["mcc_code"])
    both = facts("pairs").merge(model.pairs, on=["mcc_code", "tr_type"], validate="1:1")
    assert len(both) == 200
    assert (both["events_x"] == both["events_y"]).all()
    for key, table in (("mcc_code", "mcc"), ("tr_type", "types")):
        known = facts(table).set_index(key)["events"]
        made = model.pairs.groupby(key)["events"].sum().reindex(known.index, fill_value=0)
        left_out = known.sum() - model.pairs["events"].sum()
        assert 0 <= left_out < 0.01 * known.sum()
        assert (known - made).abs().max() <= left_out


def test_dirichlet_parameters_sum_to_the_concentration_within_each_parent(model):
    names = ("group", "lean", "mcc", "type")
    sizes = [model.known[f"{name}_concentration"] for name in names]
    for choice, size in zip(model.choices, sizes, strict=True):
        np.testing.assert_allclose(np.add.reduceat(choice.alpha, choice.parents, axis=1), size, rtol=1e-12)
        assert (choice.alpha > 0).all()
    np.testing.assert_allclose(model.hour_alpha.sum(1), model.known["hour_concentration"], rtol=1e-12)


def test_without_effects_the_expected_share_of_a_pair_is_its_share_of_events():
    model = build({name: 0.0 for name in numbers("recipe") if name.endswith("_effect")})
    share = np.ones((2, len(model.pairs)))
    for choice in model.choices:
        mean = choice.alpha / np.add.reduceat(choice.alpha, choice.parents, axis=1)[:, choice.parent_of]
        share *= mean[:, choice.column]
    expected = model.pairs["events"] / model.pairs["events"].sum()
    np.testing.assert_allclose(share, np.stack([expected, expected]), rtol=1e-12)


@pytest.mark.parametrize(("key", "name", "tolerance"), [("mcc_code", "mcc", 1e-9), ("tr_type", "type", 0.01)])
def test_log_amounts_reproduce_the_means_of_types_and_codes(model, key, name, tolerance):
    """The additive fit ends on the codes' means (exact); the types' means have converged to a hundredth.

    Codes seen fewer than two times per pair kept do not constrain a type's mean by more than that.
    """
    events, groups = model.pairs["events"], model.pairs[key]
    of_code = events.groupby(groups).sum()
    made = (events * model.pairs["log_amount_mean"]).groupby(groups).sum() / of_code
    known = model.pairs.groupby(key)[f"log_amount_mean_{name}"].first()
    np.testing.assert_allclose(made[of_code > 200], known[of_code > 200], atol=tolerance)


def test_lengths_have_the_known_median_and_the_labels_their_ratio(model):
    """A median is a whole number of events, so a ratio of medians is known to two events in the smaller one."""
    assert (np.diff(model.length_cdf, axis=1) > 0).all()
    np.testing.assert_array_equal(model.length_cdf[:, -1], 1.0)
    women, men = (1 + np.searchsorted(cdf, 0.5) for cdf in model.length_cdf)
    assert abs(men / women - model.known["events_per_man"] / model.known["events_per_woman"]) <= 2 / women
    assert women < model.known["median_events"] < men
