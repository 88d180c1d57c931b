"""Which codes tell a class from the rest: log odds ratios of using a code at all, with their standard errors."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.data.histories import Histories

HALF_WIDTH = 1.96  # of a 95 % interval, in standard errors


def code_odds(histories: Histories, least_customers: int) -> pd.DataFrame:
    """Log odds ratio of using a code of the first kind, a class to the rest, if enough labelled customers use it.

    Of two classes the second is compared with the first; of more, each with all others. Columns: class, others (what it
    is compared with), place and code of the vocabulary, log_odds, error. Half a customer joins each cell (Haldane).
    """
    size = histories.cardinalities[0]
    used = np.unique(histories.owners * size + histories.categories[:, 0])
    users = np.zeros((histories.classes, size))
    label, code = histories.labels[used // size], used % size
    np.add.at(users, (label[label >= 0], code[label >= 0]), 1)
    totals = np.bincount(histories.labels[histories.labelled], minlength=histories.classes)
    frames, place = [], 1 + np.flatnonzero(users.sum(0)[1:] >= least_customers)
    for chosen in range(histories.classes) if histories.classes > 2 else (1,):
        mine, rest = users[chosen, place] + 0.5, users[:, place].sum(0) - users[chosen, place] + 0.5
        mine_not, rest_not = totals[chosen] + 1 - mine, totals.sum() - totals[chosen] + 1 - rest
        frame = {
            "class": histories.class_names[chosen],
            "others": "the rest" if histories.classes > 2 else histories.class_names[0],
            "place": place,
            "code": [histories.vocabularies[0][number - 1] for number in place],
            "log_odds": np.log(mine * rest_not / (rest * mine_not)),
            "error": np.sqrt(1 / mine + 1 / rest + 1 / mine_not + 1 / rest_not),
        }
        frames.append(pd.DataFrame(frame).sort_values("log_odds"))
    return pd.concat(frames, ignore_index=True)


def odds_figure(odds: pd.DataFrame, names: dict[int | str, str], most: int = 10) -> Figure:
    """The lowest and the highest log odds ratios of every class, with 95 % intervals and the codes' names."""
    groups = [
        (name, pd.concat([part.head(most), part.tail(most)]).drop_duplicates()) for name, part in odds.groupby("class")
    ]
    heights = [len(part) for _, part in groups]
    fig, panels = plt.subplots(
        len(groups), squeeze=False, figsize=(7, 1 + 0.23 * sum(heights)), height_ratios=heights, sharex=True
    )
    for ax, (name, part) in zip(panels[:, 0], groups, strict=True):
        labels = [f"{names[code][:44]} ({code})" if names.get(code) else str(code) for code in part["code"]]
        error = HALF_WIDTH * part["error"]
        ax.errorbar(part["log_odds"], range(len(part)), xerr=error, fmt="o", color="#555555")
        ax.axvline(0, color="#9a9a9a", linewidth=0.8, linestyle=":")
        ax.set(yticks=range(len(part)), yticklabels=labels, ylim=(-0.5, len(part) - 0.5))
        ax.set_xlabel(f"log odds ratio, {name} to {part['others'].iloc[0]}")
    return fig
