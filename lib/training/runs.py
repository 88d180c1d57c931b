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
from torch import Tensor, nn

from lib import dependencies, paths
from lib.data import batches
from lib.data.batches import collate, last_events, length_batches, stratified_folds
from lib.data.histories import Histories
from lib.storage import atomic_folder, intact
from lib.training.classifier import ATTENTIONS, Classifier, ModelConfig
from lib.training.loop import MaskedEvents, Plan, TrainConfig, classification, fit, masked_prediction
from lib.training.processes import ALONE, Processes

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
    with ALONE.seeded(seed):
        return Classifier(config, histories, generator)


def train(
    histories: Histories,
    customers: np.ndarray,
    model_config: ModelConfig,
    config: TrainConfig,
    seed: int,
    title: str,
    checkpoint: Path | None = None,
    pretrained: dict[str, Tensor] | None = None,
    processes: Processes = ALONE,
) -> tuple[Classifier, pd.DataFrame]:
    """A model trained on the given customers, and its loss, accuracy and seconds per epoch.

    Starts from `pretrained` weights where given. Raises FloatingPointError when the loss is not finite.
    """
    model = build_classifier(histories, model_config, seed)
    if pretrained is not None:
        model.load_state_dict(pretrained)
    groups = _parameter_groups(model.to(processes.device), config)
    plan = Plan(histories, customers, config, config.epochs, seed, title, checkpoint)
    history = pd.DataFrame(fit(model, classification, groups, plan, processes))
    return model.eval(), history


def pretrained_weights(
    histories: Histories,
    model_config: ModelConfig,
    config: TrainConfig,
    seed: int,
    fresh: bool = False,
    processes: Processes = ALONE,
) -> dict[str, Tensor] | None:
    """Weights after predicting hidden events of all customers, labelled or not, from data/runs where they are kept.

    None where the recipe has no pre-training.
    """
    if not config.pretraining_epochs:
        return None
    decides = fingerprint(histories, model_config, config, processes.facts, seed)
    folder = paths.RUNS / f"pretrained-{readable(model_config.attention)}-repeat{seed}-{decides}"
    checkpoint = folder.with_suffix(".checkpoint")
    if fresh:
        checkpoint.unlink(missing_ok=True)
    if processes.from_first(lambda: fresh or not intact(folder)):
        with ALONE.seeded(seed):
            model = MaskedEvents(build_classifier(histories, model_config, seed)).to(processes.device)
        groups = [{"params": list(model.parameters()), "lr": config.pretraining_rate, "weight_decay": 0.01}]
        everyone, title = np.arange(len(histories.customers)), f"pre-training {model_config.attention} repeat {seed}"
        plan = Plan(histories, everyone, config, config.pretraining_epochs, seed, title, checkpoint)
        history = pd.DataFrame(fit(model, masked_prediction, groups, plan, processes))
        configs = {"model": model_config, "train": config, "seed": seed, **processes.facts}
        processes.from_first(lambda: _save(folder, model.classifier, configs, history=history))
    checkpoint.unlink(missing_ok=True)
    return torch.load(folder / "weights.pt", weights_only=True)


def _parameter_groups(model: Classifier, config: TrainConfig) -> list[dict]:
    """Tables, sums and groups of codes at rates and decays of their own; other matrices with decay, vectors without."""
    rate, decay = config.learning_rate, config.weight_decay
    tables, sums, groups = [*model.embedding.tables.parameters()], [], []
    if model.sums is not None:
        sums = [*model.sums.parameters()]
        groups = [*model.groups.tables.parameters(), *model.groups.head.parameters()]
    apart = {id(parameter) for parameter in (*tables, *sums, *groups)}
    others = [parameter for parameter in model.parameters() if id(parameter) not in apart]
    return [
        {"params": tables, "lr": rate * config.table_rate, "weight_decay": decay},
        {"params": sums, "lr": config.counting_rate, "weight_decay": config.counting_decay},
        {"params": groups, "lr": config.group_rate, "weight_decay": config.group_decay},
        {"params": [p for p in others if p.ndim > 1], "lr": rate, "weight_decay": decay},
        {"params": [p for p in others if p.ndim < 2], "lr": rate, "weight_decay": 0.0},
    ]


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
    processes: Processes = ALONE,
) -> Run:
    """One training of one fold, from its folder under data/runs when configs, data and code are unchanged.

    The repeat `seed` shapes both the folds and the training. Probabilities cover the fold's test customers. A training
    that was killed goes on after its last epoch; a damaged folder is named on stderr and made anew. Several processes
    train it together and share data/runs.
    """
    folder = paths.RUNS / run_name(histories, fold, fold_count, model_config, config, seed, processes)
    checkpoint = folder.with_suffix(".checkpoint")
    if fresh:
        checkpoint.unlink(missing_ok=True)
    if processes.from_first(lambda: fresh or not intact(folder)):
        train_customers, test_customers = stratified_folds(histories, fold_count, seed)[fold]
        title = f"{readable(model_config.attention)} repeat {seed} fold {fold + 1}/{fold_count}"
        pretrained = pretrained_weights(histories, model_config, config, seed, fresh and fold == 0, processes)
        arguments = (histories, train_customers, model_config, config, 1000 * seed + fold, title)
        model, history = train(*arguments, checkpoint, pretrained, processes)
        configs = {"model": model_config, "train": config, "seed": seed, "fold": fold, **processes.facts}

        def save() -> None:
            found = predict(model, histories, test_customers, config.evaluation_events)
            columns = {f"class_{i}": column for i, column in enumerate(found.T)}
            predictions = pd.DataFrame({"position": test_customers} | columns)
            _save(folder, model, configs, history=history, predictions=predictions)

        processes.from_first(save)
    checkpoint.unlink(missing_ok=True)
    model = build_classifier(histories, model_config, 1000 * seed + fold)
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
    """The modules that decide a training's result: all of `lib.data`, what this one imports, no other mechanism."""
    mechanisms = frozenset(each.__module__ for each in ATTENTIONS.values())
    if ":" in attention:
        own = dependencies.mechanism_files(attention)
    else:
        own = [Path(sys.modules[ATTENTIONS[attention].__module__].__file__)]
    following = [file for source in own for file in dependencies.modules(source)]
    imported = [*dependencies.modules(Path(__file__), skip=mechanisms), *following]
    decisive = [file for file in imported if file.parent.name in ("attention", "training")]
    return sorted({Path(__file__), *own, *decisive, *Path(batches.__file__).parent.glob("*.py")})


def run_name(
    histories: Histories,
    fold: int,
    fold_count: int,
    model: ModelConfig,
    config: TrainConfig,
    seed: int,
    processes: Processes = ALONE,
) -> str:
    """Folder of a training: readable, and another one when data, configs, code, device or number of processes are."""
    decides = fingerprint(histories, model, config, processes.facts, seed, fold, fold_count)
    return f"{readable(model.attention)}-repeat{seed}-fold{fold}-{decides}"


def readable(attention: str) -> str:
    """The name without the place of the user's own class."""
    return attention.rpartition(":")[2]


def fingerprint(histories: Histories, model: ModelConfig, config: TrainConfig, *others: object) -> str:
    """Digest of all that decides a training: data, configs, what the code does, torch's version, and what else does."""
    made_by = [dependencies.code_hash(sources(model.attention)), torch.__version__]
    configs = [dataclasses.asdict(model), dataclasses.asdict(config)]
    key = json.dumps([histories.checksum, histories.vocabularies, configs, made_by, others])
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _save(folder: Path, model: nn.Module, configs: dict, **tables: pd.DataFrame) -> None:
    with atomic_folder(folder) as partial:
        torch.save(model.cpu().state_dict(), partial / "weights.pt")
        for name, table in tables.items():
            table.to_csv(partial / f"{name}.csv", index=False)
        (partial / "configs.json").write_text(json.dumps(configs, default=dataclasses.asdict, indent=1))
