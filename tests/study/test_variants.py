import pytest
import yaml

from lib.paths import ROOT
from lib.training.classifier import MECHANISMS
from lib.training.runs import build_classifier
from study.variants import VARIANTS


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_a_network(name, histories):
    model, config = VARIANTS[name].configs(3)
    assert config.epochs == 3
    built = build_classifier(histories, model, 0)
    assert built.head.out_features == 2


def test_mechanisms_come_first_and_labels_tell_variants_apart():
    assert tuple(VARIANTS)[:3] == MECHANISMS
    labels = [variant.label for variant in VARIANTS.values()]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("profile", ["default", "quick", "full"])
def test_the_study_names_known_controls(profile):
    study = yaml.safe_load((ROOT / "study.yaml").read_text())[profile]
    assert set(study["controls"]) <= set(VARIANTS)
    assert study["control_repeats"] <= study["repeats"]
