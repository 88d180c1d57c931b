"""Classifiers trained by the one loop, cross-validation by customer, and run-or-load."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import dependencies, storage
from lib.data.batches import collate, last_events, length_batches, stratified_folds
from lib.data.histories import Histories
from lib.storage import atomic_folder, intact
from lib.training.checkpoint import seeded
from lib.training.classifier import ATTENTIONS, Classifier, ModelConfig
from lib.training.loop import TrainConfig, fit

PREDICTED_TOGETHER = 32


@dataclass(frozen=True)
class Run:
    """What a training leaves: the model, the history per epoch, and class probabilities of the test customers."""

    model: Classifier
    history: pd.DataFrame
    predictions: pd.DataFrame


def build_classifier(histories: Histories, config: ModelConfig, seed: int) -> Classifier:
    """A model whose initial weights follow from the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    with seeded(seed, torch.device("cpu")):
        return Classifier(config, histories, generator)


def train(
    histories: Histories,
    customers: np.ndarray,
    model_config: ModelConfig,
    config: TrainConfig,
    seed: int,
    title: str,
    checkpoint: Path | None = None,
) -> tuple[Classifier, pd.DataFrame]:
    """A model trained on the given customers, and its loss, accuracy and seconds per epoch.

    Raises FloatingPointError when the loss is not finite.
    """
    model = build_classifier(histories, model_config, seed)
    history = fit(model, histories, customers, config, seed, title, checkpoint)
    return model.eval(), pd.DataFrame(history)


@torch.no_grad()
def predict(model: Classifier, histories: Histories, customers: np.ndarray, limit: int) -> np.ndarray:
    """Class probabilities of customers from their last `limit` events, in the order given."""
    device = model.eval().head.weight.device
    starts, lengths = last_events(histories, customers, limit)
    probabilities = np.zeros((len(customers), model.head.out_features), np.float32)
    for group in length_batches(lengths, PREDICTED_TOGETHER):
        batch = collate(histories, customers[group], starts[group], lengths[group], device)
        scores, _ = model(batch.categories, batch.numbers, batch.days, batch.key_mask)
        probabilities[group] = scores.float().softmax(1).cpu().numpy()
    return probabilities


def run_or_load(
    histories: Histories,
    fold: int,
    fold_count: int,
    model_config: ModelConfig,
    config: TrainConfig,
    seed: int,
    fresh: bool = False,
) -> Run:
    """One training of one fold, from its folder under data/runs when configs, data and code are unchanged.

    The repeat `seed` shapes both the folds and the training. Probabilities cover the fold's test customers. A training
    that was killed goes on after its last epoch; a damaged folder is named on stderr and made again.
    """
    folder = storage.RUNS / run_name(histories, fold, fold_count, model_config, config, seed)
    checkpoint = folder.with_suffix(".checkpoint")
    own_seed = 1000 * seed + fold
    if fresh:
        checkpoint.unlink(missing_ok=True)
    if fresh or not intact(folder):
        train_customers, test_customers = stratified_folds(histories, fold_count, seed)[fold]
        title = f"{folder.name.split('-')[0]} repeat {seed} fold {fold + 1}/{fold_count}"
        model, history = train(histories, train_customers, model_config, config, own_seed, title, checkpoint)
        probabilities = predict(model, histories, test_customers, config.evaluation_events)
        columns = {f"class_{i}": column for i, column in enumerate(probabilities.T)}
        configs = {"model": model_config, "train": config, "seed": seed, "fold": fold}
        with atomic_folder(folder) as partial:
            torch.save(model.state_dict(), partial / "weights.pt")
            history.to_csv(partial / "history.csv", index=False)
            pd.DataFrame({"position": test_customers} | columns).to_csv(partial / "predictions.csv", index=False)
            (partial / "configs.json").write_text(json.dumps(configs, default=dataclasses.asdict, indent=1))
    checkpoint.unlink(missing_ok=True)
    model = build_classifier(histories, model_config, own_seed)
    model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    tables = (pd.read_csv(folder / name) for name in ("history.csv", "predictions.csv"))
    return Run(model.eval(), *tables)


def cross_validate(
    histories: Histories, model_config: ModelConfig, config: TrainConfig, fold_count: int, repeats: Iterable[int]
) -> list[Run]:
    """Every fold of every repeat, trained or loaded, in order."""
    splits = [(fold, seed) for seed in repeats for fold in range(fold_count)]
    return [run_or_load(histories, fold, fold_count, model_config, config, seed) for fold, seed in splits]


def sources(attention: str) -> list[Path]:
    """The modules that decide a training's result, given histories: what this one imports, no other mechanism."""
    mechanisms = frozenset(each.__module__ for each in ATTENTIONS.values())
    if ":" in attention:
        own = dependencies.mechanism_files(attention)
    else:
        own = [Path(sys.modules[ATTENTIONS[attention].__module__].__file__)]
    following = [file for source in own for file in dependencies.modules(source)]
    imported = [*dependencies.modules(Path(__file__), skip=mechanisms), *following]
    decisive = [file for file in imported if file.parent.name in ("attention", "training") or file.stem == "batches"]
    return sorted({Path(__file__), *own, *decisive})


def run_name(
    histories: Histories, fold: int, fold_count: int, model: ModelConfig, config: TrainConfig, seed: int
) -> str:
    """Folder of a training: readable, and another one when data, configs, what the code does or torch's version are."""
    made_by = [dependencies.code_hash(sources(model.attention)), torch.__version__]
    configs = [dataclasses.asdict(model), dataclasses.asdict(config)]
    key = json.dumps([histories.checksum, histories.encoded_by, configs, made_by, seed, fold, fold_count])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    name = model.attention.rpartition(":")[2]  # without the place of the user's own class
    return f"{name}-repeat{seed}-fold{fold}-{digest}"
