"""The sorting task of the ∞-former's paper: name the symbols of a long sequence by how often they occurred.

The distribution of symbols drifts along the sequence, so that counting the recent past is not enough. The answer is a
segment of its own, in which a single layer sees the sequence through its memory alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.attention.baselines import BinnedMemoryAttention
from lib.attention.infinite_former import InfiniteFormerAttention, MemorySettings
from lib.attention.segment_memory import SegmentMemoryAttention
from lib.attention.softmax import softmax_attention
from lib.training.loop import descend

LEARNING_RATE = 1e-2
PRIOR_WIDTH = 0.05  # to which the regulariser pulls the reads; the paper's
UNSEEN = 1_000_000  # added to a seed: sequences that the training of no seed uses


@dataclass(frozen=True)
class SortingConfig:
    """Task and training; a memory's name is that of a sampling, "bins", "segment" (none) or "everything"."""

    memory: str | MemorySettings = "even"
    length: int = 256
    symbols: int = 8
    segment: int = 32
    basis: int = 32
    model_dim: int = 32
    heads: int = 4
    kl_weight: float = 0.0
    steps: int = 300
    batch: int = 32
    test: int = 512


def sequences(
    count: int, length: int, symbols: int, generator: torch.Generator
) -> tuple[Int[Tensor, "count length"], Int[Tensor, "count symbols"]]:
    """Sequences whose symbol probabilities move from one random distribution to another, and the symbols by count.

    The more frequent come first and equally frequent ones in order of first occurrence; absent ones follow in order.
    """
    ends = torch.randint(1, 10, (count, 2, symbols), generator=generator).float()
    ends = ends / ends.sum(-1, keepdim=True)
    place = (torch.arange(length) + 1) / length
    probabilities = (1 - place)[:, None] * ends[:, :1] + place[:, None] * ends[:, 1:]
    tokens = torch.multinomial(probabilities.flatten(0, 1), 1, generator=generator).view(count, length)
    hits = nn.functional.one_hot(tokens, symbols)
    first = torch.where(hits.any(1), hits.argmax(1), length + torch.arange(symbols))
    return tokens, (hits.sum(1) * (2 * length + symbols) - first).argsort(dim=-1, descending=True)


def build_memory(config: SortingConfig) -> SegmentMemoryAttention:
    """The attention that reads the memory; softmax over bins also where these are the events themselves, or nothing."""
    settings = config.memory
    if settings in ("bins", "segment", "everything"):
        return BinnedMemoryAttention(config.model_dim, config.heads, config.basis, config.segment, causal=True)
    if isinstance(settings, str):
        sizes = {"basis": config.basis, "segment": config.segment, "samples": 2 * config.basis}
        settings = MemorySettings.named(settings, **sizes, prior_width=PRIOR_WIDTH)
    return InfiniteFormerAttention(config.model_dim, config.heads, settings, causal=True)


class Sorter(nn.Module):
    """One layer: embeddings, attention, a feed-forward network; the answer is fed with the right symbols so far.

    Raises ValueError unless the history fills its segments and the answer fits into one.
    """

    def __init__(self, config: SortingConfig):
        super().__init__()
        if config.length % config.segment or config.symbols > config.segment:
            raise ValueError(f"{config.length} symbols and an answer of {config.symbols} need segments that they fill")
        self.config = config
        self.embedding = nn.Embedding(config.symbols + 1, config.model_dim)
        self.places = nn.Parameter(torch.randn(config.symbols, config.model_dim))
        self.attention = build_memory(config)
        self.norm = nn.LayerNorm(config.model_dim)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(config.model_dim),
            nn.Linear(config.model_dim, 2 * config.model_dim),
            nn.GELU(),
            nn.Linear(2 * config.model_dim, config.model_dim),
        )
        self.head = nn.Sequential(nn.LayerNorm(config.model_dim), nn.Linear(config.model_dim, config.symbols))

    def remember(self, history: Float[Tensor, "batch length model_dim"]) -> Float[Tensor, "batch basis model_dim"]:
        """What the answer finds in memory: nothing, all events, or what the mechanism keeps of them."""
        if self.config.memory == "everything":
            return history
        coefficients = self.attention.empty_memory(len(history)).coefficients
        if self.config.memory == "segment":
            return coefficients
        real = history.new_ones((len(history), self.config.segment), dtype=torch.bool)
        for index, part in enumerate(history.split(self.config.segment, dim=1)):
            queries, _, _ = self.attention.project(part)
            coefficients = self.attention.write(coefficients, queries, part, real, self.attention.whole_update(index))
        return coefficients

    def answer_events(self, target: Int[Tensor, "batch symbols"]) -> Float[Tensor, "batch symbols model_dim"]:
        """A separator, then all right symbols but the last."""
        start = torch.full_like(target[:, :1], self.config.symbols)
        return self.embedding(torch.cat([start, target[:, :-1]], dim=1)) + self.places

    def forward(
        self, tokens: Int[Tensor, "batch length"], target: Int[Tensor, "batch symbols"]
    ) -> tuple[Float[Tensor, "batch symbols scores"], Float[Tensor, ""]]:
        """Scores of every place of the answer."""
        answer = self.answer_events(target)
        queries, keys, values = self.attention.project(self.norm(answer))
        local = softmax_attention(queries, keys, values, causal=True)
        context, regulariser = self.attention.read(queries, self.remember(self.norm(self.embedding(tokens))))
        answer = answer + self.attention.merge(local)
        answer = answer + self.attention.memory_projection(context.transpose(1, 2).flatten(2))
        return self.head(answer + self.feedforward(answer)), regulariser.mean()


def train_sorter(config: SortingConfig, seed: int) -> Sorter:
    """A model trained on fresh sequences; initial weights and data follow from the seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Sorter(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=config.steps)
    for _ in range(config.steps):
        tokens, target = sequences(config.batch, config.length, config.symbols, generator)
        scores, regulariser = model(tokens, target)
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), target.flatten()) + config.kl_weight * regulariser
        descend(model, loss, 1.0, optimizer, schedule)
    return model.eval()


@torch.no_grad()
def evaluate(model: Sorter, seed: int) -> dict[str, float]:
    """On unseen sequences the share of right symbols, each after the right ones before it, and the deviation of reads.

    The deviation is the ∞-former's alone: the mean of its densities over the first batch, in units of the whole past.
    """
    config, generator = model.config, torch.Generator().manual_seed(UNSEEN + seed)
    sizes = (config.batch, config.length, config.symbols)
    batches = [sequences(*sizes, generator) for _ in range(-(-config.test // config.batch))]
    hits = [(model(tokens, target)[0].argmax(-1) == target).float().mean() for tokens, target in batches]
    found = {"accuracy": float(torch.stack(hits).mean())}
    if isinstance(model.attention, InfiniteFormerAttention):
        tokens, target = batches[0]
        history = model.remember(model.norm(model.embedding(tokens)))
        queries, _, _ = model.attention.project(model.norm(model.answer_events(target)))
        found["deviation"] = float(model.attention.density(queries, history).variance.sqrt().mean())
    return found


def sorting_rows(tasks: Sequence[tuple[str, float, SortingConfig]], seeds: int) -> pd.DataFrame:
    """Accuracy by name and x, trained once for each seed, and how wide an ∞-former's answers read."""
    rows = []
    for (name, x, config), seed in product(tasks, range(seeds)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # of what a memory itself draws
            found = evaluate(train_sorter(config, seed), seed)
        rows += [(name, x, seed, metric, value) for metric, value in found.items()]
    return pd.DataFrame(rows, columns=["name", "x", "seed", "metric", "value"])
