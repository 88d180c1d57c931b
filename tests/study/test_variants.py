from itertools import pairwise

import numpy as np
import yaml

from lib.storage import ROOT
from lib.training.loop import TrainConfig
from lib.training.runs import build_classifier
from study.mechanisms import of_each
from study.variants import PLAIN_RECIPE, VARIANTS, permuted


def test_every_variant_is_a_network_and_a_change_of_another_and_all_plain_ones_share_a_recipe(histories):
    recipes = set()
    for name, variant in VARIANTS.items():
        model, config = variant.configs(3)
        assert build_classifier(histories, model, 0).head.out_features == 2
        assert variant.changes in set(VARIANTS) - {name}
        recipes.add(("_plain" in name, model.counting, config))
    assert recipes == {(False, True, TrainConfig(3)), (True, False, TrainConfig(3, **PLAIN_RECIPE))}
    assert len({variant.label for variant in VARIANTS.values()}) == len(VARIANTS)


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


def test_the_study_names_known_controls():
    for profile in yaml.safe_load((ROOT / "study.yaml").read_text()).values():
        assert set(of_each(profile["controls"])) <= set(VARIANTS)
        assert profile["control_repeats"] <= profile["repeats"]
