from study.accuracy import evaluate, protocol, references


def test_five_models_share_a_tenth_that_none_has_seen(histories):
    splits = protocol.published_split(histories)
    assert len(splits) == 5
    tests = {tuple(test) for _, test in splits}
    assert len(tests) == 1
    # A tenth of 24 customers, rounded up.
    test = set(tests.pop())
    assert len(test) == 3
    rest = set(histories.labelled) - test
    assert all(set(learners) < rest for learners, _ in splits)
    left_out = [customer for learners, _ in splits for customer in rest - set(learners)]
    assert sorted(left_out) == sorted(rest)


def test_each_of_the_five_models_is_one_repeat(histories):
    found = references.predictions(histories, protocol.published_split(histories), 0, ["gradient_boosting"])
    table = found.assign(seed=found["fold"], fold=0)
    scores, _ = evaluate.score_table(table, "gradient_boosting")
    assert scores.shape == (5, 3, 2)
    shown = protocol.beside_published(table, 24, "fixed test", {"gradient_boosting": "our boosting"})
    own = shown[shown["source"] == "this study"]
    assert own["model"].tolist() == ["our boosting"]
    values = evaluate.value("roc_auc", *evaluate.score_table(table, "gradient_boosting"))
    assert own["roc_auc"].item() == f"{values.mean():.3f}\u00a0±\u00a0{values.std(ddof=1):.3f}"
