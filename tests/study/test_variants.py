from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import yaml

from lib.paths import ROOT
from lib.training.loop import TrainConfig
from lib.training.runs import build_classifier
from study.mechanisms import of_each
from study.variants import COMPARED, PLAIN_RECIPE, VARIANTS, permuted


def test_every_variant_is_a_network_and_a_change_of_another(histories):
    for name, variant in VARIANTS.items():
        model, config = variant.configs(3)
        assert config.epochs == 3
        assert build_classifier(histories, model, 0).head.out_features == 2
        assert variant.changes in set(VARIANTS) - {name}
    labels = [variant.label for variant in VARIANTS.values()]
    assert len(set(labels)) == len(labels)


def test_plain_networks_share_a_recipe_and_have_no_counting_path():
    of_plain = [VARIANTS[f"{name}_plain"].configs(3) for name in COMPARED]
    assert not any(model.counting for model, _ in of_plain)
    assert {config for _, config in of_plain} == {replace(TrainConfig(epochs=3), **PLAIN_RECIPE)}


def test_a_permuted_history_has_the_same_events_at_the_same_ages(histories):
    shuffled, gap = permuted(histories), histories.quantities.index("gap")
    assert shuffled.checksum != histories.checksum
    np.testing.assert_array_equal(shuffled.days, histories.days)
    np.testing.assert_array_equal(shuffled.numbers[:, gap], histories.numbers[:, gap])
    assert (shuffled.categories != histories.categories).any()
    for start, end in pairwise(histories.offsets):
        first, second = (
            sorted(zip(*each.categories[start:end].T, *np.delete(each.numbers[start:end], gap, 1).T, strict=True))
            for each in (histories, shuffled)
        )
        assert first == second


@pytest.mark.parametrize("profile", ["default", "quick", "full"])
def test_the_study_names_known_controls(profile):
    study = yaml.safe_load((ROOT / "study.yaml").read_text())[profile]
    assert set(of_each(study["controls"])) <= set(VARIANTS)
    assert study["control_repeats"] <= study["repeats"]
