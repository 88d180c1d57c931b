"""The generative model restates the facts it was built from."""

import numpy as np
import pytest

from study.tasks import calibration


@pytest.fixture(scope="module")
def model():
    return calibration.build()


def test_every_known_mcc_can_occur_and_frequent_pairs_have_the_events_counted(model):
    assert set(model.pairs["mcc_code"]) == set(calibration.facts("mcc_codes")["mcc_code"])
    both = calibration.facts("pairs").merge(model.pairs, on=["mcc_code", "tr_type"], validate="1:1")
    assert len(both) == 200
    assert (both["events_x"] == both["events_y"]).all()


def test_margins_of_the_pairs_are_those_of_the_codes(model):
    """Products of less than two events are left out: together under a hundredth, and no code lacks more than that."""
    for key, table in (("mcc_code", "mcc"), ("tr_type", "types")):
        known = calibration.facts(table).set_index(key)["events"]
        made = model.pairs.groupby(key)["events"].sum().reindex(known.index, fill_value=0)
        left_out = known.sum() - model.pairs["events"].sum()
        assert 0 <= left_out < 0.01 * known.sum()
        assert (known - made).abs().max() <= left_out


def test_dirichlet_parameters_sum_to_the_concentration_within_each_parent(model):
    recipe = model.recipe
    sizes = [getattr(recipe, f"{name}_concentration") for name in ("group", "lean", "mcc", "type")]
    for choice, size in zip(model.choices, sizes, strict=True):
        np.testing.assert_allclose(np.add.reduceat(choice.alpha, choice.parents, axis=1), size, rtol=1e-12)
        assert (choice.alpha > 0).all()
    np.testing.assert_allclose(model.hour_alpha.sum(1), recipe.hour_concentration, rtol=1e-12)


def test_without_effects_the_expected_share_of_a_pair_is_its_share_of_events():
    effects = {name: 0.0 for name in calibration.Recipe.__dataclass_fields__ if name.endswith("_effect")}
    model = calibration.build(calibration.Recipe(**effects))
    share = np.ones((2, len(model.pairs)))
    for choice in model.choices:
        mean = choice.alpha / np.add.reduceat(choice.alpha, choice.parents, axis=1)[:, choice.parent_of]
        share *= mean[:, choice.column]
    expected = model.pairs["events"] / model.pairs["events"].sum()
    np.testing.assert_allclose(share, np.stack([expected, expected]), rtol=1e-12)


def test_log_amounts_reproduce_the_means_of_types_and_codes(model):
    """The additive fit ends on the codes' means (exact); the types' means have converged to a hundredth.

    Codes seen fewer than two times per pair kept do not constrain a type's mean by more than that.
    """
    pairs = model.pairs
    for name, tolerance in (("mcc", 1e-9), ("type", 0.01)):
        key = {"mcc": "mcc_code", "type": "tr_type"}[name]
        weighted = (pairs["events"] * pairs["log_amount_mean"]).groupby(pairs[key]).sum()
        made = weighted / pairs["events"].groupby(pairs[key]).sum()
        known = pairs.groupby(key)[f"log_amount_mean_{name}"].first()
        frequent = pairs.groupby(key)["events"].sum() > 200
        np.testing.assert_allclose(made[frequent], known[frequent], atol=tolerance)


def test_lengths_have_the_known_median_and_the_labels_their_ratio(model):
    """A median is a whole number of events, so a ratio of medians is known to two events in the smaller one."""
    assert (np.diff(model.length_cdf, axis=1) > 0).all()
    np.testing.assert_array_equal(model.length_cdf[:, -1], 1.0)
    known = calibration.targets()
    women, men = (1 + np.searchsorted(cdf, 0.5) for cdf in model.length_cdf)
    assert abs(men / women - known["events_per_man"] / known["events_per_woman"]) <= 2 / women
    assert women < known["median_events"] < men
