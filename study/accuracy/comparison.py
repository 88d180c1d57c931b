"""The tables of the comparison: scores beside costs, controls beside their mechanism, true beside permuted order."""

from pathlib import Path

import pandas as pd
from scipy.special import expit

from lib.data.batches import stratified_folds
from lib.data.histories import Histories
from lib.paths import FACTS
from lib.training.runs import Run
from study.accuracy import evaluate, references
from study.accuracy.evaluate import out_of_fold
from study.report import MODEL_STYLE
from study.variants import VARIANTS, permuted
from study.wording import words

BAYES = "bayes_optimum"
ORDERED = "bigram_regression"
"""The classical model that sees order, by neighbours."""


def label(model: str) -> str:
    """The name of a model, or of a pair "first − second", in words."""
    if " − " in model:
        return " − ".join(map(label, model.split(" − ")))
    if model in MODEL_STYLE:
        return MODEL_STYLE[model]["label"]
    return VARIANTS[model].label if model in VARIANTS else words(model)


def main_table(values: pd.DataFrame, calibration: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """One line per model: ROC-AUC with its interval, other scores, costs; what was not measured is missing."""
    scores = values.pivot(index="model", columns="metric", values="value").loc[values["model"].unique()]
    ends = values[values["metric"] == "roc_auc"].set_index("model")
    interval = ends["low"].map("{:.3f}\u00a0to\u00a0".format) + ends["high"].map("{:.3f}".format)
    others = scores[["accuracy", "log_loss"]].join(calibration["calibration_error"])
    table = pd.concat([scores["roc_auc"].round(3), interval.rename("95 % interval"), others.round(3)], axis=1)
    return table.join(costs).rename(index=label)


def against(differences: pd.DataFrame, bases: dict[str, str]) -> pd.DataFrame:
    """By model its difference to the model that it is set against (value, low, high); zero to itself."""
    rows = {}
    for model, base in bases.items():
        if model == base:
            rows[model] = (0.0, 0.0, 0.0)
        elif f"{model} − {base}" in differences.index:
            rows[model] = tuple(differences.loc[f"{model} − {base}", ["difference", "low", "high"]])
        else:
            rows[model] = tuple(-differences.loc[f"{base} − {model}", ["difference", "high", "low"]])
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])


def long_rows(table: pd.DataFrame, axis: str, experiment: str) -> pd.DataFrame:
    """A table with columns model, value, low and high (and metric, x) as result rows: bounds become metrics."""
    filled = table.assign(metric=table.get("metric", "roc_auc"), x=table.get("x", pd.Series(None, table.index)))
    rows = filled.melt(["model", "metric", "x"], ["value", "low", "high"], "bound", value_name="measured")
    rows["metric"] = rows["metric"] + rows["bound"].map({"value": "", "low": "_low", "high": "_high"})
    rows = rows.drop(columns="bound").rename(columns={"measured": "value"})
    return rows.assign(experiment=experiment, seed=None, split=None, axis=axis)


def column_rows(table: pd.DataFrame, axis: str, experiment: str) -> pd.DataFrame:
    """A table indexed by model as result rows, one for each column; missing values are left out."""
    rows = table.rename_axis("model").reset_index().melt("model", var_name="metric").dropna()
    return rows.assign(experiment=experiment, seed=None, split=None, axis=axis, x=None)


def control_table(
    histories: Histories, controls: dict[str, list[Run]], predictions: pd.DataFrame, fold_count: int, seed: int
) -> pd.DataFrame:
    """By control: ROC-AUC, and what the network of which it is a change loses by it, on the repeats of both.

    The intervals of the losses hold for all controls at once.
    """
    frames = [out_of_fold(histories, name, runs, fold_count) for name, runs in controls.items()]
    every = pd.concat([predictions, *frames], ignore_index=True)
    lost = evaluate.comparisons(every, [(VARIANTS[name].changes, name) for name in controls], seed)
    lost = lost.set_axis(pd.Index(controls, name="model")).rename(columns={"difference": "loss"})
    scores = evaluate.score_rows(pd.concat(frames), ["roc_auc"], seed).set_index("model")["value"]
    return lost.rename(columns={"low": "loss_low", "high": "loss_high"}).assign(roc_auc=scores)


def order_table(
    histories: Histories, controls: dict[str, list[Run]], predictions: pd.DataFrame, fold_count: int, seed: int
) -> pd.DataFrame:
    """True minus permuted order in ROC-AUC, of counted pairs of codes and of the controls on permuted events.

    The intervals hold for all of them at once. Pairs are counted in the first repeat.
    """
    frames = [out_of_fold(histories, name, runs, fold_count) for name, runs in controls.items()]
    counted = references.predictions(permuted(histories), stratified_folds(histories, fold_count, 0), 0, [ORDERED])
    frames.append(counted.assign(model=f"{ORDERED}_permuted"))
    names = [ORDERED, *(VARIANTS[name].changes for name in controls)]
    pairs = [(name, f"{name}_permuted") for name in names]
    table = evaluate.comparisons(pd.concat([predictions, *frames], ignore_index=True), pairs, seed)
    return table.set_axis(pd.Index(names, name="model"))


def spelled(differences: pd.DataFrame, pairs: list[tuple[str, str]]) -> str:
    """The differences of these pairs as part of a claim's sentence, by first model."""
    rows = [(label(first), *differences.loc[f"{first} − {second}"]) for first, second in pairs]
    return "; ".join(
        f"{name} {difference:+.3f} ({low:+.3f} to {high:+.3f})" for name, difference, low, high, *_ in rows
    )


def beside_published(predictions: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """The published results and our models', best first: mean ROC-AUC and accuracy, and by which protocol."""
    scores = {metric: evaluate.spread(predictions, metric)["mean"] for metric in ("roc_auc", "accuracy")}
    ours = pd.DataFrame(scores).rename(index=label).reset_index().assign(protocol=protocol, source="this study")
    published = pd.read_csv(FACTS / "published_results.csv")
    published["protocol"] += published["labels"].map(", {:,} customers".format)
    table = pd.concat([published[list(ours)], ours], ignore_index=True).round(3)
    return table.sort_values("roc_auc", ascending=False, ignore_index=True)


def bayes_predictions(histories: Histories, folder: Path, predictions: pd.DataFrame) -> pd.DataFrame:
    """The generator's own probabilities as one more model, in the folds of the first model of the predictions."""
    truth = pd.read_csv(folder / "truth.csv").set_index("customer_id")["log_odds"].reindex(histories.customers)
    first = predictions[predictions["model"] == predictions["model"].iloc[0]]
    probability = expit(truth.to_numpy())[first["position"].to_numpy()]
    return first.assign(model=BAYES, class_0=1 - probability, class_1=probability)
