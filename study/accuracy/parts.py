"""What each part of a network makes of the class logit, and how well it ranks customers on its own."""

import numpy as np
import pandas as pd
import torch

from lib.data.batches import collate, last_events, length_batches
from lib.data.histories import Histories
from lib.training.classifier import Classifier
from lib.training.loop import TrainConfig
from lib.training.runs import PREDICTED_TOGETHER, Run
from study.accuracy.evaluate import interval, prediction_frame, score_table

PARTS = {
    "head on the encoder": ["head"],
    "log-count sums": ["sums"],
    "soft groups": ["groups"],
    "counting path": ["sums", "groups"],
    "all": ["head", "sums", "groups"],
}


@torch.no_grad()
def part_scores(model: Classifier, histories: Histories, customers: np.ndarray) -> dict[str, np.ndarray]:
    """By part of the network, the class scores that it gives to each customer."""
    starts, lengths = last_events(histories, customers, TrainConfig.evaluation_events)
    found = {}
    for group in length_batches(lengths, PREDICTED_TOGETHER):
        batch = collate(histories, customers[group], starts[group], lengths[group])
        made, _ = model.parts(batch.categories, batch.numbers, batch.days, batch.key_mask)
        for name, scores in made.items():
            found.setdefault(name, np.zeros((len(customers), scores.shape[1])))[group] = scores.numpy()
    return found


def against_the_others(scores: np.ndarray) -> np.ndarray:
    """Each class's score minus the mean of the others': of two classes the logit, and minus it."""
    classes = scores.shape[1]
    return (scores - scores.mean(1, keepdims=True)) * classes / (classes - 1)


def logit_parts(histories: Histories, runs: dict[str, list[Run]], fold_count: int, seed: int) -> pd.DataFrame:
    """By network and part (`split`), on customers never seen: deviation of its logit, mean over runs; ROC-AUC alone."""
    rows = []
    for model, of_model in runs.items():
        positions = [run.predictions["position"].to_numpy() for run in of_model]
        scored = [part_scores(run.model, histories, each) for run, each in zip(of_model, positions, strict=True)]
        for part, names in PARTS.items():
            logits = [against_the_others(sum(scores[name] for name in names)) for scores in scored]
            frames = [
                prediction_frame(histories, model, *divmod(place, fold_count), *found)
                for place, found in enumerate(zip(positions, logits, strict=True))
            ]
            auc, low, high = interval(*score_table(pd.concat(frames), model), "roc_auc", seed=seed)
            row = {"model": model, "split": part, "deviation": np.mean([each.std(0).mean() for each in logits])}
            rows.append(row | {"roc_auc": auc, "roc_auc_low": low, "roc_auc_high": high})
    return pd.DataFrame(rows)
