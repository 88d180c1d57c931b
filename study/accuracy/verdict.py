"""The comparison's answer from its saved rows: how accurate each mechanism is, and whether any differs visibly."""

from dataclasses import dataclass
from itertools import permutations
from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes

from study.figures import interval_plot
from study.report import MODEL_STYLE
from study.wording import listed

COMPARISON, REMOVED = "08_comparison", "mean_pooling"
CLASSICAL = {
    "logistic_regression": "a logistic regression on counts of codes",
    "bigram_regression": "a logistic regression on counts of codes and their pairs",
    "size_regression": "a logistic regression on counts of codes by amount",
    "count_regression": "a logistic regression on event counts",
    "gradient_boosting": "gradient boosting on aggregates",
}
"""The classical models of the main comparison, as a sentence names them."""
LABELS = {name: style["label"] for name, style in MODEL_STYLE.items()}
ALL = {2: "Both", 3: "All three", 4: "All four", 5: "All five"}
NEAR = 0.02  # a larger difference in ROC-AUC is spelled out, visible or not


@dataclass(frozen=True)
class Verdict:
    """ROC-AUC of every model (value, low, high), and paired differences by (first, second) as of `comparisons`."""

    scores: pd.DataFrame
    differences: pd.DataFrame
    mechanisms: list[str]

    @property
    def best_classical(self) -> str:
        """The classical model with the highest ROC-AUC."""
        return str(self.scores.loc[[name for name in CLASSICAL if name in self.scores.index], "value"].idxmax())

    @property
    def among(self) -> pd.DataFrame:
        """The differences between mechanisms."""
        return self.differences[self.differences.index.isin(list(permutations(self.mechanisms, 2)))]


def visible(differences: pd.DataFrame) -> pd.DataFrame:
    """Those whose interval excludes zero."""
    return differences[(differences["low"] > 0) | (differences["high"] < 0)]


def verdict(rows: pd.DataFrame) -> Verdict | None:
    """What a study's saved rows say; none where it has no comparison."""
    rows = rows[(rows["experiment"] == COMPARISON) & rows["axis"].isin(["final", "difference"])]
    tables = {axis: each.pivot(index="model", columns="metric", values="value") for axis, each in rows.groupby("axis")}
    if len(tables) < 2:
        return None
    scores = tables["final"][["roc_auc", "roc_auc_low", "roc_auc_high"]].set_axis(["value", "low", "high"], axis=1)
    differences = tables["difference"]
    differences.index = pd.MultiIndex.from_tuples(name.split(" − ") for name in differences.index)
    held = {first for first, second in differences.index if second == REMOVED}
    mechanisms = [name for name in MODEL_STYLE if name in held]
    return Verdict(scores, differences, mechanisms)


def accuracy_sentences(found: Verdict) -> list[str]:
    """How accurate the mechanisms are, what does as well without attention, and whether any two differ visibly."""
    scores, names, apart = found.scores["value"], found.mechanisms, visible(found.among)
    if apart.empty:
        ends = sorted({f"{scores[names].min():.2f}", f"{scores[names].max():.2f}"})
        sentences = [f"{ALL.get(len(names), 'All')} reach ROC-AUC {' to '.join(ends)}."]
        detectable = found.among["detectable"].max()
        last = f"No difference between mechanisms is visible; one of {detectable:.2f} would be found in 80 % of cases."
    else:
        sentences = ["ROC-AUC is " + listed([f"{scores[name]:.2f} with {LABELS[name]}" for name in names]) + "."]
        ordered = [pair if difference > 0 else pair[::-1] for pair, difference in apart["difference"].items()]
        told = [f"{LABELS[better]} beats {LABELS[other]}" for better, other in ordered]
        last = _capital(f"{listed(told)}, by more than chance explains.")
    alike = []
    rivals = {REMOVED: "the same network with attention removed", found.best_classical: CLASSICAL[found.best_classical]}
    for rival, phrase in rivals.items():
        differences = found.differences.xs(rival, level=1).loc[names]
        near = differences["difference"].abs().max() <= NEAR
        if apart.empty and near and visible(differences).empty:
            alike.append(f"{phrase} ({scores[rival]:.2f})")
        else:
            sides = {"more": differences["high"] < 0, "less": differences["low"] > 0}
            than = {word: listed([LABELS[name] for name in differences.index[side]]) for word, side in sides.items()}
            beside = "".join(f", visibly {word} than {others}" for word, others in than.items() if others)
            sentences.append(_capital(f"{phrase} reaches {scores[rival]:.2f}{beside}."))
    if alike:
        sentences.insert(1, f"So {'do' if len(alike) > 1 else 'does'} {listed(alike)}.")
    return [*sentences, last]


def accuracy_panel(ax: Axes, rows: pd.DataFrame) -> None:
    """ROC-AUC with 95 % intervals of the mechanisms and of at most three more; nothing without a comparison."""
    found = verdict(rows)
    if found is None:
        return
    beside = [REMOVED, found.best_classical, "logistic_regression", "gradient_boosting"]
    names = list(dict.fromkeys([*found.mechanisms, *beside]))[: len(found.mechanisms) + 3]
    interval_plot(ax, found.scores, {name: fill(LABELS[name], 24) for name in names}, "ROC-AUC, out of fold")
    for place, value in enumerate(found.scores.loc[names, "value"]):
        ax.text(1.02, place, f"{value:.2f}", transform=ax.get_yaxis_transform(), va="center", fontsize=9)


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
