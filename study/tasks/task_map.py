"""What each mechanism is for: networks that differ in their attention alone, trained on tasks with known answers."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from lib import dependencies, storage
from lib.storage import checksum, read_checksummed, write_checksummed
from lib.training.classifier import Encoder, EventEmbedding, ModelConfig
from lib.training.loop import descend, warm_up_and_decay
from lib.training.runs import sources
from study.mechanisms import OWN
from study.tasks.streams import TASKS, Examples, Task

SHAPE = {"model_dim": 64, "heads": 2, "layers": 1, "feedforward_dim": 128, "dropout": 0.0}
LEARNING_RATE, WARMUP, CLIP, KL_WEIGHT = 5e-3, 0.1, 1.0, 1e-3
ENOUGH_STEPS = {"counts": 150, "order": 200, "recall_content": 200, "recall_time": 400}  # fewer teach too little


@dataclass(frozen=True)
class Trial:
    """One network trained on one task. Every training starts with the shortest histories; others join one by one."""

    task: str
    network: str
    config: ModelConfig
    lengths: tuple[int, ...]
    steps: int
    growth: float  # share of the steps after which all lengths have joined
    seed: int
    encoder: str = "bare"  # what the encoder knows of places
    events: int = 2048  # of a batch
    answers: int = 2048  # at each length, to measure the accuracy


def network(name: str, segment: int) -> ModelConfig:
    """A mechanism, or what it is compared with, in an encoder of one layer.

    Named as in `ATTENTIONS`, or as a kind of Performer, memory or bins with the number of features or functions.
    """
    kind, _, number = name.rpartition("_")
    size = int(number) if number.isdigit() else 0
    settings = {
        "performer": {"attention": "performer", "features": size},
        "hyperbolic": {"attention": "performer", "features": size, "kernel": "hyperbolic", "projection": "fixed_norm"},
        "even": {"attention": "infinite_former", "basis": size, "samples": 2 * size, "sampling": "even"},
        "sticky": {"attention": "infinite_former", "basis": size, "samples": 2 * size, "sampling": "sticky"},
        "bins": {"attention": "binned_memory", "basis": size},
    }
    return ModelConfig(**SHAPE, segment=segment, **settings.get(kind, {"attention": OWN.get(name, name)}))


class Network(nn.Module):
    """Embedding, encoder and a linear head on each of the last events, or on the mean of all where none asks."""

    def __init__(self, task: Task, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.asked = task.asked
        self.embedding = EventEmbedding(task.cardinalities, len(task.cardinalities), 1, config.model_dim)
        self.encoder = Encoder(config, generator)
        self.norm = nn.LayerNorm(config.model_dim)
        self.head = nn.Linear(config.model_dim, task.classes)

    def forward(self, examples: Examples) -> tuple[Float[Tensor, "batch asked classes"], Float[Tensor, ""]]:
        """Scores of the answers, and the regulariser."""
        encoded, regulariser = self.encoder(self.embedding(*map(torch.from_numpy, examples[:3])))
        encoded = self.norm(encoded)
        return self.head(encoded[:, -self.asked :] if self.asked else encoded.mean(1, keepdim=True)), regulariser


def train(trial: Trial) -> Network:
    """A network trained on a stream of fresh batches; half have the longest histories so far, the others any length."""
    task, rng = TASKS[trial.task], np.random.default_rng([trial.seed, 0])
    torch.manual_seed(trial.seed)  # of the weights, and of what a user's mechanism draws, here and in the test
    model = Network(task, trial.config, torch.Generator().manual_seed(trial.seed))
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.0)
    rate = partial(warm_up_and_decay, steps=trial.steps, warmup=WARMUP)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    for step in range(trial.steps):
        known = trial.lengths[: 1 + int(step / trial.steps / trial.growth * len(trial.lengths))]
        length = known[-1] if rng.random() < 0.5 else int(rng.choice(known))
        examples = task.draw(rng, trial.events // length, length)
        scores, regulariser = model(examples)
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), torch.from_numpy(examples.answers).flatten())
        descend(model, loss + KL_WEIGHT * regulariser, CLIP, optimizer, schedule)
    return model.eval()


@torch.no_grad()
def test(model: Network, trial: Trial) -> pd.DataFrame:
    """On histories never seen: accuracy by length, and (of the longest) by distance or the best possible."""
    task, rows = TASKS[trial.task], []
    for length in trial.lengths:
        rng, size = np.random.default_rng([trial.seed, 1, length]), trial.events // length
        batches = [task.draw(rng, size, length) for _ in range(-(-trial.answers // (size * max(1, task.asked))))]
        scores = np.concatenate([model(batch)[0].numpy() for batch in batches])
        truth = np.concatenate([batch.answers for batch in batches])
        right = scores.argmax(-1) == truth
        rows.append(("accuracy", "length", length, right.mean()))
        if not task.asked:
            odds = np.concatenate([batch.log_odds for batch in batches])
            rows.append(("bayes_accuracy", "length", length, ((odds > 0) == truth[:, 0]).mean()))
    if task.asked:
        distances = np.concatenate([batch.distances for batch in batches])
        edges = 2 ** np.ceil(np.log2(np.maximum(distances, 16))).astype(int)
        rows += [("accuracy", "distance", edge, right[edges == edge].mean()) for edge in np.unique(edges)]
    return pd.DataFrame(rows, columns=["metric", "axis", "x", "value"])


def stored_at(trial: Trial) -> Path:
    """The file of a trial: another one where configs, or the code and facts that decide its answers, are."""
    here = Path(__file__)
    tasks = [file for file in dependencies.modules(here) if file.parent == here.parent]
    code = dependencies.code_hash([here, *tasks, *sources(trial.config.attention)])
    key = json.dumps([asdict(trial), code, checksum(sorted(storage.FACTS.glob("*.csv"))), torch.__version__])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return storage.MEASUREMENTS / "local" / "tasks" / f"{trial.task}-{trial.network}-{trial.seed}-{digest}.csv"


def run_or_load(trial: Trial) -> pd.DataFrame:
    """Rows of one trial, with the seconds of a core that it took."""
    file = stored_at(trial)
    if (content := read_checksummed(file)) is None:
        started = time.process_time()
        rows = test(train(trial), trial)
        rows.loc[len(rows)] = ("cpu_seconds", "final", np.nan, time.process_time() - started)
        content = rows.to_csv(index=False).encode()
        write_checksummed(file, content)
    rows = pd.read_csv(BytesIO(content))
    return rows.assign(task=trial.task, model=trial.network, split=trial.encoder, seed=trial.seed)


def measure(trials: Sequence[Trial], processes: int) -> pd.DataFrame:
    """Rows of all trials, so many trained at once, each on one core; what an interrupted call finished is kept."""
    missing = [trial for trial in trials if not stored_at(trial).exists()]
    missing.sort(key=lambda trial: -trial.steps)  # long ones first, so that no process waits long for the last
    silent = "TQDM_DISABLE" in os.environ or None
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _follow_parent)
    try:
        list(tqdm(pool.map(run_or_load, missing), "networks", len(missing), leave=False, disable=silent))
    finally:
        pool.shutdown(cancel_futures=True)
    return pd.concat(map(run_or_load, trials), ignore_index=True)


def _follow_parent() -> None:
    """In a process of its own: one core, and an end when the notebook's process ends, however that happens."""
    torch.set_num_threads(1)
    Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()
