"""The search behind the shared recipe: the same candidates for every mechanism, on customers the study never sees.

Candidates are the present recipe and a scrambled Sobol sequence: none hangs on a result, every mechanism has the same
budget. Each is one cross-validation, on generated customers unless told otherwise. What is done is kept by Optuna in
data/runs/search.sqlite3: a search that was killed, or is given more candidates, goes on.
"""

import argparse
import dataclasses
import multiprocessing
import os
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
import torch
from jaxtyping import Float
from optuna.distributions import FloatDistribution

from lib import paths
from lib.data.batches import stratified_folds
from lib.data.description import DataError
from lib.data.histories import Histories
from lib.storage import write_atomic
from lib.training.classifier import MECHANISMS
from lib.training.loop import TrainConfig
from lib.training.runs import predict, run_name, train
from study.accuracy import evaluate, search
from study.sources import prepare
from study.variants import VARIANTS

SPACE = {
    "learning_rate": FloatDistribution(5e-5, 2e-3, log=True),
    "counting_rate": FloatDistribution(0.003, 0.05, log=True),
    "counting_decay": FloatDistribution(0.03, 3.0, log=True),
    "group_rate": FloatDistribution(0.01, 0.1, log=True),
    "group_decay": FloatDistribution(0.0, 0.3),  # not logarithmic: the present recipe has none
    "dropout": FloatDistribution(0.0, 0.5),
}


def candidates(count: int, seed: int) -> list[dict]:
    """The present recipe, then points of the Sobol sequence with three significant digits; more keep the first ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the interface, pinned here, may change
        study = optuna.create_study(sampler=optuna.samplers.QMCSampler(scramble=True, seed=seed))
    study.enqueue_trial({name: search.RECIPE[name] for name in SPACE})
    for _ in range(count):
        study.tell(study.ask(SPACE), 0.0)
    return [{name: float(f"{trial.params[name]:.3g}") for name in SPACE} for trial in study.trials]


class Plan(NamedTuple):
    """On which customers every candidate is tried, and how: `seed` shapes customers, folds and trainings."""

    source: str
    customers: int
    seed: int
    epochs: int
    folds: int


class Attempt(NamedTuple):
    """Probabilities of the labelled customers out of fold, equal ones where a training diverged; in how many folds."""

    probabilities: Float[np.ndarray, "customers classes"]
    diverged: int
    cpu_seconds: float


def attempt(plan: Plan, mechanism: str, candidate: dict) -> Attempt:
    """One cross-validation of a mechanism with the candidate's settings in the place of the recipe's."""
    histories, started, diverged = prepare(*plan[:3]), time.process_time(), 0
    probabilities = np.full((len(histories.customers), histories.classes), 1 / histories.classes)
    model, recipe = (
        dataclasses.replace(config, **{name: value for name, value in candidate.items() if hasattr(config, name)})
        for config in VARIANTS[mechanism].configs(plan.epochs)
    )
    for fold, (learners, others) in enumerate(stratified_folds(histories, plan.folds, plan.seed)):
        title = f"{mechanism} fold {fold + 1}/{plan.folds}"
        try:
            trained, _ = train(histories, learners, model, recipe, 1000 * plan.seed + fold, title)
        except FloatingPointError:
            diverged += 1
            continue
        probabilities[others] = predict(trained, histories, others, recipe.evaluation_events)
    return Attempt(probabilities[histories.labelled], diverged, time.process_time() - started)


def kept(histories: Histories, plan: Plan, mechanism: str) -> optuna.Study:
    """What earlier searches found for a mechanism; another study when data, code or plan are others."""
    paths.RUNS.mkdir(parents=True, exist_ok=True)
    name = run_name(histories, 0, plan.folds, *VARIANTS[mechanism].configs(plan.epochs), plan.seed)
    storage = f"sqlite:///{paths.RUNS / 'search.sqlite3'}"
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)


def made(plan: Plan, histories: Histories, mechanisms: list[str], tried: list[dict], jobs: int) -> search.Tried:
    """By mechanism, what every candidate gave; those not kept are made, each in one of `jobs` processes."""
    studies = {mechanism: kept(histories, plan, mechanism) for mechanism in mechanisms}
    done = {mechanism: [trial.params for trial in study.trials] for mechanism, study in studies.items()}
    missing = [(mechanism, each) for each in tried for mechanism in mechanisms if each not in done[mechanism]]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin) as pool:
        waiting = {pool.submit(attempt, plan, *each): each for each in missing}
        try:
            for number, future in enumerate(as_completed(waiting), 1):
                (mechanism, candidate), found = waiting[future], future.result()
                (value,) = evaluate.value("roc_auc", found.probabilities[None], histories.labels[histories.labelled])
                facts = found._asdict() | {"probabilities": found.probabilities.tolist()}
                trial = {"params": candidate, "distributions": SPACE, "value": float(value), "user_attrs": facts}
                studies[mechanism].add_trial(optuna.trial.create_trial(**trial))
                print(
                    f"{number}/{len(waiting)} {mechanism}: {value:.3f} ROC-AUC, {found.cpu_seconds:.0f} s",
                    file=sys.stderr,
                )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    trials = [(name, study.trials) for name, study in studies.items()]
    return {name: [next(one.user_attrs for one in of if one.params == each) for each in tried] for name, of in trials}


def _begin() -> None:
    """One thread for a process, which ends with the one that started it."""
    torch.set_num_threads(1)
    threading.Thread(target=lambda: (multiprocessing.parent_process().join(), os._exit(1)), daemon=True).start()


def main() -> int:
    """Search, or go on searching, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m study.tune", description=__doc__)
    parser.add_argument("--mechanisms", nargs="+", choices=MECHANISMS, default=list(MECHANISMS))
    parser.add_argument("--trials", type=int, default=33, help="candidates, the present recipe being the first")
    parser.add_argument("--source", default="synthetic", help="synthetic, sberbank or a folder of events")
    parser.add_argument("--customers", type=int, default=400, help="size of the synthetic set")
    parser.add_argument("--seed", type=int, default=1000, help="of generated customers, folds, trainings, candidates")
    parser.add_argument("--epochs", type=int, default=TrainConfig.epochs)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with one thread")
    parser.add_argument("--out", type=Path, default=paths.DATA / "tuning" / "search.csv")
    options = parser.parse_args()
    for name, least in {"trials": 1, "epochs": 1, "folds": 2, "jobs": 1}.items():
        if getattr(options, name) < least:
            parser.error(f"--{name} {getattr(options, name)}: give at least {least}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = Plan(options.source, options.customers, options.seed, options.epochs, options.folds)
    mechanisms, tried = list(dict.fromkeys(options.mechanisms)), candidates(options.trials, options.seed)
    try:
        histories = prepare(*plan[:3])
        stratified_folds(histories, plan.folds, plan.seed)
    except DataError as error:
        parser.exit(2, f"error: {error}\n")
    found = made(plan, histories, mechanisms, tried, options.jobs)
    rows = search.table(found, histories.labels[histories.labelled], tried, plan.seed)
    kind = {"synthetic": f"generated with seed {plan.seed}", "sberbank": "of the public set"}
    rows.insert(0, "searched", f"{len(histories.labelled)} customers {kind.get(plan.source, 'of a folder of events')}")
    rows.insert(3, "epochs", plan.epochs)
    write_atomic(options.out, rows.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
