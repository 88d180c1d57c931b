"""The protocol of the published results on the public set, and those results.

One tenth of the labelled customers is the test for all; a model is trained on each of five parts of the rest without
that part, and the spread is over the five models (dllllb/ptls-experiments).
"""

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, train_test_split

from lib.data.histories import Histories
from lib.paths import FACTS
from study.accuracy import evaluate
from study.accuracy.references import Split

TEST_SHARE = 0.1
MODELS = 5


def published_split(histories: Histories) -> list[Split]:
    """Train and test positions of the five models: different training customers, the same test customers."""
    labelled, labels = histories.labelled, histories.labels
    rest, test = train_test_split(labelled, test_size=TEST_SHARE, stratify=labels[labelled], random_state=0)
    folds = StratifiedKFold(MODELS, shuffle=True, random_state=0).split(rest, labels[rest])
    return [(np.sort(rest[train]), np.sort(test)) for train, _ in folds]


def published_results() -> pd.DataFrame:
    """The published rows: model, roc_auc, its spread over the five models, accuracy, labels, protocol, source."""
    return pd.read_csv(FACTS / "published_results.csv")


def beside_published(predictions: pd.DataFrame, labels: int, protocol: str, names: dict[str, str]) -> pd.DataFrame:
    """The published rows and our models' among them, best first: means and spread over the repeats."""
    spread, accuracy = (evaluate.spread(predictions, metric) for metric in ("roc_auc", "accuracy"))
    ours = pd.DataFrame({"roc_auc": spread["mean"], "spread": spread["std"], "accuracy": accuracy["mean"]})
    ours = ours.rename(index=names).reset_index().assign(labels=labels, protocol=protocol, source="this study")
    table = pd.concat([published_results(), ours], ignore_index=True).round(3)
    table = table.sort_values("roc_auc", ascending=False, ignore_index=True)
    spread = table["spread"].map("\u00a0±\u00a0{:.3f}".format).where(table["spread"].notna(), "")
    score = (table["roc_auc"].map("{:.3f}".format) + spread).where(table["roc_auc"].notna(), None)
    learned = table["protocol"] + table["labels"].map(", {:,} customers".format)
    return table[["model"]].assign(roc_auc=score, accuracy=table["accuracy"], protocol=learned, source=table["source"])
