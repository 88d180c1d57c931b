"""The tables of the comparison: scores, controls beside their network, true beside permuted order, what was tried."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from scipy.special import expit

from lib.data.histories import Histories
from lib.storage import DATA
from study.accuracy import evaluate, references
from study.accuracy.references import Split
from study.report import MODEL_STYLE
from study.variants import VARIANTS, permuted
from study.wording import words

BAYES = "bayes_optimum"
ORDERED = "bigram_regression"  # the classical model that sees order, by neighbours


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


def control_table(predictions: pd.DataFrame, controls: Sequence[str], seed: int) -> pd.DataFrame:
    """By control, what the network of which it is a change loses in ROC-AUC, the intervals holding for all at once."""
    lost = evaluate.comparisons(predictions, [(VARIANTS[name].changes, name) for name in controls], seed)
    names = {"difference": "loss", "low": "loss_low", "high": "loss_high"}
    return lost.set_axis(pd.Index(controls, name="model")).rename(columns=names)


def order_table(
    histories: Histories, splits: Sequence[Split], predictions: pd.DataFrame, controls: Sequence[str], seed: int
) -> pd.DataFrame:
    """True minus permuted order in ROC-AUC, of counted pairs of codes (in the first repeat's splits) and controls."""
    counted = references.predictions(permuted(histories), splits, 0, [ORDERED]).assign(model=f"{ORDERED}_permuted")
    names = [ORDERED, *(VARIANTS[name].changes for name in controls)]
    pairs = [(name, f"{name}_permuted") for name in names]
    table = evaluate.comparisons(pd.concat([predictions, counted], ignore_index=True), pairs, seed)
    return table.set_axis(pd.Index(names, name="model"))


def spelled(differences: pd.DataFrame, pairs: list[tuple[str, str]]) -> str:
    """The differences of these pairs as part of a claim's sentence, by first model."""
    rows = [(label(first), *differences.loc[f"{first} − {second}"]) for first, second in pairs]
    return "; ".join(
        f"{name} {difference:+.3f} ({low:+.3f} to {high:+.3f})" for name, difference, low, high, *_ in rows
    )


def bayes_predictions(histories: Histories, folder: Path, predictions: pd.DataFrame) -> pd.DataFrame:
    """The generator's own probabilities as one more model, in the folds of the first model of the predictions."""
    truth = pd.read_csv(folder / "truth.csv").set_index("customer_id")["log_odds"].reindex(histories.customers)
    first = predictions[predictions["model"] == predictions["model"].iloc[0]]
    probability = expit(truth.to_numpy())[first["position"].to_numpy()]
    return first.assign(model=BAYES, class_0=1 - probability, class_1=probability)


def saved_searches() -> dict[str, pd.DataFrame]:
    """What searches for a recipe left in data/tuning, by name."""
    return {path.stem: pd.read_csv(path) for path in sorted((DATA / "tuning").glob("*.csv"))}


def tried_on(checksum: str, tables: dict[str, pd.DataFrame]) -> pd.Series:
    """ROC-AUC of the networks that were tried by hand on the data of this checksum; empty where there were none."""
    counting = tables["counting"]
    networks = ~counting.iloc[:, 0].str.startswith("regression")
    scores = [counting.loc[networks, "roc_auc_public_sample"], tables["recipe"]["roc_auc"]]
    tried = pd.concat(scores, ignore_index=True).dropna()
    return tried if checksum in set(tables["tuned_on"]["checksum"]) else tried.iloc[:0]


def best_for_all(search: pd.DataFrame) -> pd.DataFrame:
    """By mechanism, the candidate that is best by their mean, and what it lacks to the mechanism's own best.

    `behind_best` and its error are of paired differences on the same customers.
    """
    mean = search[search["mechanism"] == "mean"].set_index("trial")["roc_auc"]
    chosen = search[(search["trial"] == mean.idxmax()) & (search["mechanism"] != "mean")]
    return chosen.set_index("mechanism")[["roc_auc", "behind_best", "behind_best_error"]]
