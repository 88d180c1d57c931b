"""The generative model of synthetic histories: published facts of the real data, filled in with a recipe."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from lib.storage import FACTS

HOURS = 24
MAIN_SHARE = 0.05  # codes with at least this share of all events are chosen directly, the others through their leaning
LEANING = 0.35  # log-ratio of men to women beyond which a code counts as men's or women's
RESOLUTION = 244  # the men's and women's events of the facts were read off a chart with this resolution
SMALL_SHARE = 5e-4  # shares of types below this are too noisy to tell men from women
GOLDEN = (5**0.5 - 1) / 2  # spreads codes evenly over typical places in a couple
Columns = Float[ndarray, " columns"]


class Choice(NamedTuple):
    """One choice on the way to a code: for each parent a Dirichlet over its columns, for women and for men."""

    column: Int[ndarray, " pairs"]
    starts: Int[ndarray, " columns"]  # first pair of each column: columns are runs of pairs
    parents: Int[ndarray, " parents"]  # first column of each parent: parents are runs of columns
    parent_of: Int[ndarray, " columns"]
    alpha: Float[ndarray, "2 columns"]


@dataclass(frozen=True)
class Model:
    """Everything a history is drawn from; a first axis of two is women, men."""

    known: dict[str, float]  # the targets and the recipe
    men: float  # share of men
    pairs: pd.DataFrame  # mcc_code, tr_type, main, *_share, log_amount_mean, log_amount_sd, lean_in_couple
    choices: list[Choice]  # group, leaning in the group, MCC in the leaning, type in the MCC
    hour_alpha: Float[ndarray, "2 hours"]
    days: Int[ndarray, " days"]
    length_cdf: Float[ndarray, "2 lengths"]  # of the lengths 1, 2, ...


def facts(name: str) -> pd.DataFrame:
    """One table of `data/facts`; `data/README.md` says what it holds."""
    return pd.read_csv(FACTS / f"{name}.csv")


def numbers(name: str) -> dict[str, float]:
    """The single numbers of "targets", those of the real data, or of "recipe", by name."""
    return facts(name).set_index("name")["value"].to_dict()


def build(changed: dict[str, float] | None = None) -> Model:
    """The model of the facts, filled in with the recipe; `changed` replaces some of their numbers."""
    known, days = numbers("targets") | numbers("recipe") | (changed or {}), facts("days")
    men, pairs = known["men_share_of_labels"], pair_table()
    pairs["log_amount_sd"] = np.sqrt((pairs["log_amount_sd"] ** 2 - known["amount_spread"] ** 2).clip(0.04))
    return Model(
        known=known,
        men=men,
        pairs=pairs,
        choices=choices(pairs, known),
        hour_alpha=known["hour_concentration"] * hour_shares(known["hour_effect"], men, known["midnight_share"]),
        days=(days["expense_events"] + days["income_events"]).to_numpy(),
        length_cdf=length_cdf(known["length_effect"] * np.log(known["events_per_man"] / known["events_per_woman"])),
    )


def pair_table() -> pd.DataFrame:
    """Pairs (MCC, type) with their facts, sorted so that every choice on the way to a pair is a run of rows."""
    mcc, types = facts("mcc"), facts("types")
    pairs = pair_events(mcc.set_index("mcc_code")["events"], types.set_index("tr_type")["events"])
    pairs = pairs.merge(mcc.drop(columns="events"), on="mcc_code", validate="m:1")
    pairs = pairs.merge(types.drop(columns="events"), on="tr_type", suffixes=("_mcc", "_type"), validate="m:1")
    women, men = mcc["women_events"].sum(), mcc["men_events"].sum()
    odds = (pairs["men_events"] + RESOLUTION) / (pairs["women_events"] + RESOLUTION) * women / men
    pairs["mcc_log_ratio"] = np.log(odds).where(pairs["women_events"] + pairs["men_events"] > 0, 0.0)
    ratio = (pairs["men_share"] + SMALL_SHARE) / (pairs["women_share"] + SMALL_SHARE)
    pairs["type_log_ratio"] = np.log(ratio).fillna(0.0)
    code_events = pairs.groupby("mcc_code")["events"].transform("sum")
    pairs["main"] = code_events >= MAIN_SHARE * pairs["events"].sum()
    pairs["group"] = pairs["mcc_code"].where(pairs["main"], 0)
    leaning = np.sign(pairs["mcc_log_ratio"]).where(pairs["mcc_log_ratio"].abs() > LEANING, 0)
    pairs["leaning"] = leaning.where(~pairs["main"], 0) + pairs["group"]
    pairs["lean_in_couple"] = (code_events.rank(method="dense", ascending=False) * GOLDEN) % 1.0
    return with_amounts(pairs.sort_values(["group", "leaning", "mcc_code", "tr_type"], ignore_index=True))


def pair_events(mcc_events: pd.Series, type_events: pd.Series) -> pd.DataFrame:
    """Events of pairs: as counted, else products of what is left of the margins, if two or more or a code's largest."""
    pairs = facts("pairs")
    mcc_left = mcc_events.sub(pairs.groupby("mcc_code")["events"].sum(), fill_value=0).clip(0.2)
    type_left = type_events.sub(pairs.groupby("tr_type")["events"].sum(), fill_value=0).clip(0)
    products = np.outer(mcc_left, type_left / type_left.sum()).ravel()
    left = pd.Series(products, pd.MultiIndex.from_product([mcc_left.index, type_left.index]), name="events")
    left = left.drop(pd.MultiIndex.from_frame(pairs[["mcc_code", "tr_type"]])).reset_index()
    largest = left.groupby("mcc_code")["events"].transform("max") == left["events"]
    kept = (left["events"] >= 2) | (largest & ~left["mcc_code"].isin(pairs["mcc_code"]))
    return pd.concat([pairs, left[kept]], ignore_index=True)


def with_amounts(pairs: pd.DataFrame) -> pd.DataFrame:
    """Log-amounts of pairs as type plus MCC, fitted to both margins' means; the spread is the type's remainder."""
    weight, by_mcc, by_type = pairs["events"], pairs["mcc_code"], pairs["tr_type"]

    def mean(values: pd.Series, by: pd.Series) -> pd.Series:
        return (values * weight).groupby(by).transform("sum") / weight.groupby(by).transform("sum")

    mcc_part = pd.Series(0.0, pairs.index)
    for _ in range(50):  # alternating projections of an additive model: converged long before
        type_part = pairs["log_amount_mean_type"] - mean(mcc_part, by_type)
        mcc_part = (pairs["log_amount_mean_mcc"] - mean(type_part, by_mcc)).fillna(0.0)
    explained = mean(mcc_part**2, by_type) - mean(mcc_part, by_type) ** 2
    spread = np.sqrt((pairs["log_amount_sd"].fillna(1.0) ** 2 - explained).clip(0.04))
    return pairs.assign(log_amount_mean=type_part + mcc_part, log_amount_sd=spread)


def tilted(share: Columns, log_ratio: Columns, men: float) -> Float[ndarray, "2 columns"]:
    """Shares of women and of men with the given log-ratio, up to a constant, around the common share."""
    return np.stack([share * np.exp(-men * log_ratio), share * np.exp((1 - men) * log_ratio)])


def choices(pairs: pd.DataFrame, known: dict[str, float]) -> list[Choice]:
    """The four choices of a pair with their Dirichlet parameters; within a parent these sum to the concentration."""
    events, men = pairs["events"].to_numpy(), known["men_share_of_labels"]
    steps = {"group": "group", "lean": "leaning", "mcc": "mcc_code", "type": "tr_type"}
    result, parent = [], np.zeros(len(pairs), dtype=int)
    for name, level in steps.items():
        log_ratio = pairs["type_log_ratio" if name == "type" else "mcc_log_ratio"].to_numpy()
        new = (pairs[level].diff() != 0).to_numpy() | (np.diff(parent, prepend=0) != 0)
        column, starts = np.cumsum(new) - 1, np.flatnonzero(new)
        parent_of = parent[starts]
        parents = np.flatnonzero(np.diff(parent_of, prepend=-1))
        share = np.add.reduceat(tilted(events, known[f"{name}_effect"] * log_ratio, men), starts, axis=1)
        alpha = known[f"{name}_concentration"] * share / np.add.reduceat(share, parents, axis=1)[:, parent_of]
        result.append(Choice(column, starts, parents, parent_of, alpha))
        parent = column
    return result


def hour_shares(effect: float, men: float, midnight_share: float) -> Float[ndarray, "2 hours"]:
    """Shares of the hours among events that are not at midnight; the hour after midnight does not tell the labels."""
    table = facts("hours")
    share, inside = table["share"].to_numpy().copy(), table["hour"].to_numpy() > 0
    share[0] -= midnight_share
    women, men_ = (table[f"{sex}_share"].to_numpy() / table[f"{sex}_share"][inside].sum() for sex in ("women", "men"))
    result = tilted(share, np.where(inside, effect * np.log(men_ / women), 0.0), men)
    return result / result.sum(axis=1, keepdims=True)


def length_cdf(log_ratio: float) -> Float[ndarray, "2 lengths"]:
    """Distributions of the lengths 1, 2, ...: one curve, its inside stretched apart by the ratio of the means."""
    table = facts("lengths")
    edges = np.log(np.arange(2, table["events"].max() + 1))
    inside = table["quantile"].between(0, 1, inclusive="neither")
    curves = [np.log(table["events"]) + shift * inside for shift in (-log_ratio / 2, log_ratio / 2)]
    return np.stack([np.interp(edges, curve, table["quantile"]) for curve in curves])
