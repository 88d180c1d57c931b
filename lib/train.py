"""The one training loop, cross-validation by customer, and run-or-load."""

import argparse
import dataclasses
import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from lib import data, dependencies, paths
from lib.data import Batch, Histories
from lib.evaluate import prediction_frame
from lib.model import Classifier, ModelConfig

MECHANISMS = ("softmax", "performer", "infinite_former")


@dataclass(frozen=True)
class TrainConfig:
    """The training recipe, the same for every mechanism.

    `table_rate` multiplies the learning rate of the category tables: Adam's steps ignore how rarely a code is seen, so
    at the full rate a few customers' rare codes are memorised.
    """

    epochs: int = 20
    batch_size: int = 16
    learning_rate: float = 2e-3
    table_rate: float = 0.05
    weight_decay: float = 0.1
    warmup: float = 0.1
    clip: float = 1.0
    max_events: int = 512
    shortest_slice: float = 0.5
    evaluation_events: int = 1024
    kl_weight: float = 1e-3
    redraw_epochs: int = 1


@dataclass(frozen=True)
class Run:
    """What a training leaves: the model, the history per epoch, and class probabilities of the test customers."""

    model: Classifier
    history: pd.DataFrame
    predictions: pd.DataFrame


def build(histories: Histories, config: ModelConfig, seed: int) -> Classifier:
    """A model whose initial weights follow from the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Classifier(
            dataclasses.replace(config, classes=histories.classes),
            data.cardinalities(),
            histories.numbers.shape[1],
            generator,
        )


def train(
    histories: Histories, customers: np.ndarray, model_config: ModelConfig, config: TrainConfig, seed: int, title: str
) -> tuple[Classifier, pd.DataFrame]:
    """A model trained on the given customers, and its loss, accuracy and seconds per epoch.

    Raises FloatingPointError when the loss is not finite.
    """
    model = build(histories, model_config, seed)
    generator, draws = np.random.default_rng(seed), torch.Generator().manual_seed(seed + 1)
    optimizer = torch.optim.AdamW(_parameter_groups(model, config))
    steps = config.epochs * -(-len(customers) // config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(warm_up_and_decay, steps=steps, warmup=config.warmup)
    )
    rows = []
    progress = tqdm(range(config.epochs), desc=title, unit="epoch", disable=None, leave=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for epoch in progress:
            started = time.perf_counter()
            if config.redraw_epochs and epoch % config.redraw_epochs == 0:
                model.redraw(draws)
            loss, accuracy = _epoch(model, histories, customers, config, optimizer, schedule, generator)
            if not np.isfinite(loss):
                raise FloatingPointError(f"{title}: the loss is {loss} in epoch {epoch + 1}; lower the learning rate")
            rows.append(
                {"epoch": epoch + 1, "loss": loss, "accuracy": accuracy, "seconds": time.perf_counter() - started}
            )
            progress.set_postfix(loss=f"{loss:.3f}")
    return model.eval(), pd.DataFrame(rows)


def warm_up_and_decay(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate: a linear rise over a share of the steps, then half a cosine to zero."""
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise))) / 2


def _parameter_groups(model: Classifier, config: TrainConfig) -> list[dict]:
    """Tables at their own rate; matrices with weight decay; biases and norms without."""
    tables = list(model.embedding.tables.parameters())
    others = [p for name, p in model.named_parameters() if not name.startswith("embedding.tables")]
    rate, decay = config.learning_rate, config.weight_decay
    return [
        {"params": tables, "lr": rate * config.table_rate, "weight_decay": decay},
        {"params": [p for p in others if p.ndim > 1], "lr": rate, "weight_decay": decay},
        {"params": [p for p in others if p.ndim < 2], "lr": rate, "weight_decay": 0.0},
    ]


def _epoch(model, histories, customers, config, optimizer, schedule, generator) -> tuple[float, float]:
    model.train()
    starts, lengths = data.random_slices(histories, customers, config.max_events, config.shortest_slice, generator)
    losses, hits = [], 0
    for group in data.batches(lengths, config.batch_size, generator):
        batch = data.collate(histories, customers[group], starts[group], lengths[group])
        scores, regulariser = _scores(model, batch)
        loss = nn.functional.cross_entropy(scores, batch.labels)
        optimizer.zero_grad(set_to_none=True)
        (loss + config.kl_weight * regulariser).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        schedule.step()
        losses.append(loss.item() * len(group))
        hits += int((scores.argmax(1) == batch.labels).sum())
    return sum(losses) / len(customers), hits / len(customers)


def _scores(model: Classifier, batch: Batch):
    return model(batch.categories, batch.numbers, batch.days, batch.key_mask)


@torch.no_grad()
def predict(
    model: Classifier, histories: Histories, customers: np.ndarray, limit: int, batch_size: int = 32
) -> np.ndarray:
    """Class probabilities of customers from their last `limit` events, in the order given."""
    model.eval()
    starts, lengths = data.last_events(histories, customers, limit)
    probabilities = np.zeros((len(customers), model.head.out_features), np.float32)
    for group in data.batches(lengths, batch_size):
        batch = data.collate(histories, customers[group], starts[group], lengths[group])
        probabilities[group] = _scores(model, batch)[0].float().softmax(1).numpy()
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

    The repeat `seed` shapes both the folds and the training. Probabilities cover the fold's test customers.
    """
    folder = paths.RUNS / run_name(histories, fold, fold_count, model_config, config, seed)
    if fresh or not folder.exists():
        train_customers, test_customers = data.folds(histories, fold_count, seed)[fold]
        title = f"{model_config.attention} repeat {seed} fold {fold + 1}/{fold_count}"
        model, history = train(histories, train_customers, model_config, config, 1000 * seed + fold, title)
        probabilities = predict(model, histories, test_customers, config.evaluation_events)
        predictions = pd.DataFrame(probabilities, columns=[f"class_{i}" for i in range(probabilities.shape[1])])
        predictions.insert(0, "position", test_customers)
        configs = {"model": model_config, "train": config, "seed": seed, "fold": fold}
        _save(folder, model, history, predictions, configs)
    model = build(histories, model_config, 1000 * seed + fold)
    model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    tables = (pd.read_csv(folder / name) for name in ("history.csv", "predictions.csv"))
    return Run(model.eval(), *tables)


def cross_validate(
    histories: Histories,
    model_config: ModelConfig,
    config: TrainConfig,
    fold_count: int,
    repeats: range | list[int],
    fresh: bool = False,
) -> list[Run]:
    """Every fold of every repeat, trained or loaded, in order."""
    return [
        run_or_load(histories, fold, fold_count, model_config, config, seed, fresh)
        for seed in repeats
        for fold in range(fold_count)
    ]


def out_of_fold(
    histories: Histories, name: str, runs: list[Run], fold_count: int, predict: Callable | None = None
) -> pd.DataFrame:
    """Test-fold predictions of `cross_validate`'s runs in the shape of `lib.evaluate`.

    With `predict(model, histories, customers)` they are made anew, for example with a part of the model switched off.
    """
    frames = []
    for place, run in enumerate(runs):
        position = run.predictions["position"].to_numpy()
        found = run.predictions.filter(like="class_").to_numpy()
        probabilities = found if predict is None else predict(run.model, histories, position)
        frames.append(prediction_frame(histories, name, *divmod(place, fold_count), position, probabilities))
    return pd.concat(frames, ignore_index=True)


def sources(attention: str) -> list[Path]:
    """The modules that decide a training's result: everything this one rests on but the other mechanisms."""
    others = frozenset({*MECHANISMS} - {attention, "softmax"})
    return [
        Path(__file__),
        *dependencies.modules(Path(__file__), skip=others | {"evaluate", "dependencies", "synthetic"}),
    ]


def run_name(
    histories: Histories, fold: int, fold_count: int, model: ModelConfig, config: TrainConfig, seed: int
) -> str:
    configs = [dataclasses.asdict(model), dataclasses.asdict(config)]
    code = dependencies.code_hash(sources(model.attention))
    known = [data.vocabulary(column).tolist() for column in data.CATEGORIES]
    key = json.dumps([*configs, histories.checksum, known, code, seed, fold, fold_count, torch.__version__])
    return f"{model.attention}-repeat{seed}-fold{fold}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _save(folder: Path, model: nn.Module, history: pd.DataFrame, predictions: pd.DataFrame, configs: dict) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    torch.save(model.state_dict(), partial / "weights.pt")
    history.to_csv(partial / "history.csv", index=False)
    predictions.to_csv(partial / "predictions.csv", index=False)
    (partial / "configs.json").write_text(json.dumps(configs, default=dataclasses.asdict, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(partial, folder)


def main() -> int:
    """Train one mechanism on every fold of one repeat; finished folds are loaded."""
    parser = argparse.ArgumentParser(prog="python -m lib.train", description=main.__doc__)
    parser.add_argument("mechanism", choices=MECHANISMS)
    parser.add_argument("--repeat", type=int, default=0, help="which repeat: seeds the folds and the training")
    parser.add_argument("--source", default="synthetic", help="synthetic, sberbank or a folder in the bank's format")
    parser.add_argument("--customers", type=int, default=500, help="size of the synthetic set")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=TrainConfig.epochs)
    parser.add_argument("--fresh", action="store_true", help="train even where a finished run exists")
    parser.add_argument("--out", type=Path, required=True, help="where to list the runs, as JSON")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    histories = data.prepare(options.source, options.customers)
    configs = ModelConfig(attention=options.mechanism), TrainConfig(epochs=options.epochs)
    names = []
    for fold in range(options.folds):
        run = run_or_load(histories, fold, options.folds, *configs, options.repeat, options.fresh)
        names.append(run_name(histories, fold, options.folds, *configs, options.repeat))
        last = run.history.iloc[-1]
        print(
            f"{options.mechanism} repeat {options.repeat} fold {fold + 1}/{options.folds}: "
            f"training loss {last['loss']:.3f}, {run.history['seconds'].sum():.0f} s of training",
            file=sys.stderr,
        )
    partial = options.out.with_suffix(".partial")
    partial.write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
    partial.rename(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
