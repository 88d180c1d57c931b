"""One encoder classifier of event histories in which only the attention differs."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from lib.attention.baselines import BinnedMemoryAttention, LocalAttention, NoAttention, Recurrence
from lib.attention.infinite_former import InfiniteFormerAttention, MemorySettings
from lib.attention.numerics import constant
from lib.attention.performer import PerformerAttention
from lib.attention.softmax import ExplicitSoftmaxAttention, MultiHeadAttention, SoftmaxAttention
from lib.training.counting import COUNT_SCALE, LogCountLogits, SoftGroupCounts, crossed, inverse_occurrence

CONTEXT_SCALE = 0.2
BYTE_VALUES = 256
READOUTS = ("all", "last_segment")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes the network; the mechanisms' own settings are ignored by the others.

    `readout` says which encoded events are pooled: all of a history's, or only its last `segment` ones, so that what
    lies before reaches the scores through the attention alone.
    """

    attention: str = "softmax"
    model_dim: int = 64
    heads: int = 4
    layers: int = 1
    feedforward_dim: int = 128
    dropout: float = 0.3
    classes: int = 2
    features: int = 64
    kernel: str = "positive"
    projection: str = "orthogonal"
    basis: int = 64
    segment: int = 128
    sampling: str = "sticky"
    contraction: float = 0.75
    samples: int = 256
    readout: str = "all"
    groups: int = 4


ATTENTIONS: dict[str, type[nn.Module]] = {
    "softmax": SoftmaxAttention,
    "explicit_softmax": ExplicitSoftmaxAttention,
    "local_softmax": LocalAttention,
    "binned_memory": BinnedMemoryAttention,
    "gru": Recurrence,
    "none": NoAttention,
    "performer": PerformerAttention,
    "infinite_former": InfiniteFormerAttention,
}
"""What can stand in the place of attention, by the name that a configuration gives it."""
MECHANISMS = ("softmax", "performer", "infinite_former")
"""The three that the study compares."""


def build_attention(config: ModelConfig, generator: torch.Generator) -> nn.Module:
    """The attention module that the configuration names. Raises ValueError with the known names for any other."""
    if config.attention not in ATTENTIONS:
        raise ValueError(f"unknown attention {config.attention!r}; known: {', '.join(ATTENTIONS)}")
    attention, shape = ATTENTIONS[config.attention], (config.model_dim, config.heads)
    match config.attention:
        case "none":
            return attention()
        case "gru":
            return attention(config.model_dim)
        case "local_softmax":
            return attention(*shape, config.segment)
        case "binned_memory":
            return attention(*shape, config.basis, config.segment)
        case "performer":
            settings = {name: getattr(config, name) for name in ("features", "kernel", "projection")}
            return attention(*shape, generator=generator, **settings)
        case "infinite_former":
            settings = ("basis", "segment", "sampling", "contraction", "samples")
            return attention(*shape, MemorySettings(**{name: getattr(config, name) for name in settings}))
    return attention(*shape)


@constant
def frequencies(count: int, device: torch.device) -> Float[Tensor, " count"]:
    """Of the waves that tell an event's age, in radians per day: one of a day to one of a thousand days."""
    return (2 * math.pi / torch.logspace(0, math.log10(1000), count, dtype=torch.float32, device="cpu")).to(device)


class EventEmbedding(nn.Module):
    """Sum of the categories' embeddings, the numbers' projection and sinusoids of the event's age in days.

    The first `code_kinds` categories are codes, the others context. At the start the codes dominate: what was bought is
    the signal, amount, hour, weekday and age are its context.
    """

    def __init__(self, cardinalities: tuple[int, ...], code_kinds: int, numbers: int, model_dim: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, model_dim) for count in cardinalities)
        self.numbers = nn.Sequential(nn.Linear(numbers, model_dim), nn.GELU(), nn.Linear(model_dim, model_dim))
        self.age = nn.Linear(model_dim, model_dim)
        self.norm = nn.LayerNorm(model_dim)
        scales = [1.0] * code_kinds + [CONTEXT_SCALE] * (len(cardinalities) - code_kinds)
        for table, scale in zip(self.tables, scales, strict=True):
            nn.init.normal_(table.weight, std=scale)

    def forward(
        self,
        categories: Int[Tensor, "batch length kinds"],
        numbers: Float[Tensor, "batch length numbers"],
        days: Float[Tensor, "batch length"],
    ) -> Float[Tensor, "batch length model_dim"]:
        weight = self.age.weight
        angles = days[..., None] * frequencies(len(weight) // 2, weight.device)
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1).to(weight.dtype)
        embedded = CONTEXT_SCALE * (self.numbers(numbers) + self.age(waves))
        for position, table in enumerate(self.tables):
            embedded = embedded + table(categories[..., position])
        return self.norm(embedded)


def random_bytes(count: int, device: torch.device) -> UInt8[Tensor, " count"]:
    """Independent uniform bytes from the framework's generator of the device, eight from one 64-bit draw.

    Draws are serial on a CPU, and one for every entry is up to a fifth of an epoch of small networks.
    """
    words = torch.empty(-(-count // 8), dtype=torch.int64, device=device)
    return words.random_(torch.iinfo(words.dtype).min, None).view(torch.uint8)[:count]


def dropout(inputs: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
    """Each entry is zero with probability `share`, to the nearest 1/256, or else divided by the probability kept.

    Raises ValueError unless the share is at least 0 and rounds to less than 1.
    """
    dropped = round(BYTE_VALUES * share)
    if share < 0 or dropped >= BYTE_VALUES:
        raise ValueError(f"the share dropped must be at least 0 and round to less than 1, got {share}")
    if not dropped:
        return inputs
    kept = random_bytes(inputs.numel(), inputs.device).view(inputs.shape) >= dropped
    return inputs * kept.to(inputs.dtype).mul_(BYTE_VALUES / (BYTE_VALUES - dropped))


class ByteDropout(nn.Dropout):
    """The framework's module with cheaper draws; the identity in evaluation mode."""

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return dropout(inputs, self.p) if self.training else inputs


class EncoderLayer(nn.Module):
    """Pre-norm residual layer: attention, then a feed-forward network on each event."""

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.attention = build_attention(config, generator)
        self.attention_norm = nn.LayerNorm(config.model_dim)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(config.model_dim),
            nn.Linear(config.model_dim, config.feedforward_dim),
            nn.GELU(),
            nn.Linear(config.feedforward_dim, config.model_dim),
        )
        self.dropout = ByteDropout(config.dropout)

    def forward(
        self, events: Float[Tensor, "batch length model_dim"], key_mask: Bool[Tensor, "batch length"] | None = None
    ) -> tuple[Float[Tensor, "batch length model_dim"], Float[Tensor, ""]]:
        attended = self.attention(self.attention_norm(events), key_mask)
        events = events + self.dropout(attended.output)
        return events + self.dropout(self.feedforward(events)), attended.regulariser


class Encoder(nn.Module):
    """A stack of layers; returns the encoded events and the sum of the attentions' regularisers."""

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config, generator) for _ in range(config.layers))

    def forward(
        self, events: Float[Tensor, "batch length model_dim"], key_mask: Bool[Tensor, "batch length"] | None = None
    ) -> tuple[Float[Tensor, "batch length model_dim"], Float[Tensor, ""]]:
        regulariser = events.new_zeros(())
        for layer in self.layers:
            events, penalty = layer(events, key_mask)
            regulariser = regulariser + penalty
        return events, regulariser


def last_events(key_mask: Bool[Tensor, "batch length"], count: int) -> Bool[Tensor, "batch length"]:
    """The last `count` real events of each row, or all of a row that has fewer."""
    return key_mask & (key_mask.flip(1).cumsum(1).flip(1) <= count)


class Classifier(nn.Module):
    """Class scores of a history: embedding, encoder, pooling and a linear head, beside what counting tells.

    The pooled vector holds the mean of the encoded events and their sums weighted by inverse occurrence. Beside it
    stand sums over codes and soft counts of groups: what the encoder adds to counting is learned on top of it, whatever
    the attention. Raises ValueError for an unknown read-out.
    """

    def __init__(
        self,
        config: ModelConfig,
        cardinalities: tuple[int, ...],
        code_kinds: int,
        numbers: int,
        generator: torch.Generator,
    ) -> None:
        if config.readout not in READOUTS:
            raise ValueError(f"unknown readout {config.readout!r}; known: {', '.join(READOUTS)}")
        super().__init__()
        self.code_kinds = code_kinds
        self.segment = config.segment
        self.last = config.segment if config.readout == "last_segment" else None
        self.embedding = EventEmbedding(cardinalities, code_kinds, numbers, config.model_dim)
        self.encoder = Encoder(config, generator)
        self.norm = nn.LayerNorm(config.model_dim)
        self.dropout = ByteDropout(config.dropout)
        self.head = nn.Linear((1 + code_kinds) * config.model_dim, config.classes)
        self.sums = LogCountLogits(cardinalities[:code_kinds], config.classes)
        self.groups = SoftGroupCounts(cardinalities[:code_kinds], config.model_dim, config.groups, config.classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        categories: Int[Tensor, "batch length kinds"],
        numbers: Float[Tensor, "batch length numbers"],
        days: Float[Tensor, "batch length"],
        key_mask: Bool[Tensor, "batch length"],
    ) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, ""]]:
        encoded, regulariser = self.encode(categories, numbers, days, key_mask)
        pooled_events = key_mask if self.last is None else last_events(key_mask, self.last)
        mean = pooled_events / pooled_events.sum(1, keepdim=True).clamp(min=1)
        codes = categories[..., : self.code_kinds]
        items = torch.cat([codes, crossed(categories, numbers)[..., None]], dim=-1)
        counts = COUNT_SCALE * inverse_occurrence(items, pooled_events)
        weights = torch.cat([mean[..., None], counts[..., : self.code_kinds]], dim=-1)
        encoded = encoded.masked_fill(~pooled_events[..., None], 0)
        pooled = (weights.to(encoded.dtype).transpose(1, 2) @ encoded).flatten(1)
        scores = self.head(self.dropout(pooled)) + self.sums(items, counts)
        scores = scores + self.groups(encoded, codes, pooled_events)
        return scores, regulariser

    def encode(
        self,
        categories: Int[Tensor, "batch length kinds"],
        numbers: Float[Tensor, "batch length numbers"],
        days: Float[Tensor, "batch length"],
        key_mask: Bool[Tensor, "batch length"],
    ) -> tuple[Float[Tensor, "batch length model_dim"], Float[Tensor, ""]]:
        """Every event in the light of the others, normalised, and the attentions' regulariser."""
        encoded, regulariser = self.encoder(self.dropout(self.embedding(categories, numbers, days)), key_mask)
        return self.norm(encoded), regulariser

    def regularised_events(self, key_mask: Bool[Tensor, "batch length"]) -> int:
        """Of how many events a layer's regulariser is the mean: those after the first segment, which read a memory."""
        return int(key_mask[:, self.segment :].sum())

    def attention_inputs(
        self,
        categories: Int[Tensor, "batch length kinds"],
        numbers: Float[Tensor, "batch length numbers"],
        days: Float[Tensor, "batch length"],
        key_mask: Bool[Tensor, "batch length"],
    ) -> list[tuple[MultiHeadAttention, Float[Tensor, "batch length model_dim"]]]:
        """Every layer's attention with the events that reach it, to look inside a trained model."""
        events, inputs = self.embedding(categories, numbers, days), []
        for layer in self.encoder.layers:
            inputs.append((layer.attention, layer.attention_norm(events)))
            events, _ = layer(events, key_mask)
        return inputs

    def redraw(self, generator: torch.Generator) -> None:
        """Fresh random features for every Performer attention; the other mechanisms have none."""
        for layer in self.encoder.layers:
            if isinstance(layer.attention, PerformerAttention):
                layer.attention.redraw(generator)
