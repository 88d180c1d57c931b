"""One encoder classifier of event histories in which only the attention differs."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.attention import Events, Mask, constant
from lib.attention.baselines import BinnedMemoryAttention, LocalAttention, NoAttention, Recurrence
from lib.attention.infinite_former import InfiniteFormerAttention, MemorySettings
from lib.attention.mechanism import MultiHeadAttention, load_mechanism, takes
from lib.attention.performer import PerformerAttention
from lib.attention.softmax import ExplicitSoftmaxAttention, SoftmaxAttention
from lib.data.histories import Histories
from lib.training.counting import COUNT_SCALE, LogCountLogits, SoftGroupCounts, crossed, inverse_occurrence

Categories = Int[Tensor, "batch length kinds"]
Numbers = Float[Tensor, "batch length numbers"]
Days = Float[Tensor, "batch length"]
Scores = Float[Tensor, "batch classes"]
Scalar = Float[Tensor, ""]

CONTEXT_SCALE = 0.2
BYTE_VALUES = 256
SHAPE = ("model_dim", "heads")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes the network; the mechanisms' own settings are ignored by the others.

    `counting` joins the counting path to the head; without it the network is plain. `places` "rotary" turns queries and
    keys by the event's index; "none" leaves them. `convolution` is the width of the one before each attention, or 0.
    """

    attention: str = "softmax"
    model_dim: int = 64
    heads: int = 4
    layers: int = 1
    feedforward_dim: int = 128
    dropout: float = 0.3
    features: int = 64
    kernel: str = "positive"
    projection: str = "orthogonal"
    basis: int = 64
    segment: int = 128
    sampling: str = "sticky"
    contraction: float = 0.75
    samples: int = 256
    groups: int = 4
    counting: bool = True
    places: str = "none"
    convolution: int = 0


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


def attention_class(name: str) -> type[nn.Module]:
    """The class that a configuration names: one of the known, or the user's own as `load_mechanism` loads it."""
    if ":" in name:
        return load_mechanism(name)
    if name not in ATTENTIONS:
        raise ValueError(f"unknown attention {name!r}; known: {', '.join(ATTENTIONS)}, or folder/file.py:Class")
    return ATTENTIONS[name]


def build_attention(config: ModelConfig, generator: torch.Generator, causal: bool = False) -> nn.Module:
    """The attention module that the configuration names; its constructor takes what it needs of the configuration.

    The user's own are built from `model_dim`, `heads` and, if they take them, `generator` and `causal`. Raises
    ValueError with the known names for any other, and where there is no causal form.
    """
    if config.places not in ("none", "rotary"):
        raise ValueError(f"unknown places {config.places!r}; known: none, rotary")
    kind = attention_class(config.attention)
    known = vars(config) if config.attention in ATTENTIONS else {each: vars(config)[each] for each in SHAPE}
    if kind is InfiniteFormerAttention:
        names = ("basis", "segment", "sampling", "contraction", "samples")
        known = known | {"settings": MemorySettings.named(**{name: known[name] for name in names})}
    if causal and not takes(kind, "causal"):
        raise ValueError(f"{kind.__name__} has no causal form")
    known = known | {"generator": generator, "causal": causal}
    attention = kind(**{name: value for name, value in known.items() if takes(kind, name)})
    attention.rotary = config.places == "rotary"
    return attention


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

    def forward(self, categories: Categories, numbers: Numbers, days: Days) -> Events:
        weight = self.age.weight
        angles = days[..., None] * frequencies(len(weight) // 2, weight.device)
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1).to(weight.dtype)
        embedded = CONTEXT_SCALE * (self.numbers(numbers) + self.age(waves))
        for position, table in enumerate(self.tables):
            embedded = embedded + table(categories[..., position])
        return self.norm(embedded)


def dropout(inputs: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
    """Each entry is zero with probability `share`, to the nearest 1/256, or else divided by the probability kept.

    One 64-bit draw decides on eight entries: draws are serial on a CPU, and one for every entry is up to a fifth of an
    epoch of small networks. Raises ValueError unless the share is at least 0 and rounds to less than 1.
    """
    dropped = round(BYTE_VALUES * share)
    if share < 0 or dropped >= BYTE_VALUES:
        raise ValueError(f"the share dropped must be at least 0 and round to less than 1, got {share}")
    if not dropped:
        return inputs
    words = torch.empty(-(-inputs.numel() // 8), dtype=torch.int64, device=inputs.device)
    uniform = words.random_(torch.iinfo(words.dtype).min, None).view(torch.uint8)[: inputs.numel()]
    kept = uniform.view(inputs.shape) >= dropped
    return inputs * kept.to(inputs.dtype).mul_(BYTE_VALUES / (BYTE_VALUES - dropped))


class ByteDropout(nn.Dropout):
    """The framework's module with cheaper draws; the identity in evaluation mode."""

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return dropout(inputs, self.p) if self.training else inputs


class ShortConvolution(nn.Module):
    """Norm, convolution over `width` neighbouring events and GELU, to be added to the events: local order.

    A plain form of Conformer's convolution module (Gulati et al. 2020) and Hyena's short filter (Poli et al. 2023). It
    looks both ways, and what lies beyond the real events is zero.
    """

    def __init__(self, model_dim: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(model_dim)
        self.convolution = nn.Conv1d(model_dim, model_dim, width)

    def forward(self, events: Events, key_mask: Mask | None = None) -> Events:
        inputs = self.norm(events)
        if key_mask is not None:
            inputs = inputs * key_mask[..., None]
        (width,) = self.convolution.kernel_size
        inputs = F.pad(inputs.transpose(1, 2), ((width - 1) // 2, width // 2))
        return F.gelu(self.convolution(inputs)).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Pre-norm residual layer: a short convolution if wanted, attention, then a feed-forward network on each event."""

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
        self.convolution = ShortConvolution(config.model_dim, config.convolution) if config.convolution else None

    def with_neighbours(self, events: Events, key_mask: Mask | None = None) -> Events:
        """The events as they reach the attention's norm."""
        return events if self.convolution is None else events + self.dropout(self.convolution(events, key_mask))

    def forward(self, events: Events, key_mask: Mask | None = None) -> tuple[Events, Scalar]:
        events = self.with_neighbours(events, key_mask)
        attended = self.attention(self.attention_norm(events), key_mask)
        events = events + self.dropout(attended.output)
        return events + self.dropout(self.feedforward(events)), attended.regulariser


class Encoder(nn.Module):
    """A stack of layers; returns the encoded events and the sum of the attentions' regularisers."""

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config, generator) for _ in range(config.layers))

    def forward(self, events: Events, key_mask: Mask | None = None) -> tuple[Events, Scalar]:
        regulariser = events.new_zeros(())
        for layer in self.layers:
            events, penalty = layer(events, key_mask)
            regulariser = regulariser + penalty
        return events, regulariser


class Classifier(nn.Module):
    """Class scores of histories like those given: embedding, encoder, pooling and a linear head, and the counting path.

    The pooled vector holds the mean of the encoded events and their sums weighted by inverse occurrence. Beside it
    stand, unless the network is plain, sums over codes and soft counts of groups: what the encoder adds to counting is
    learned on top of it, whatever the attention.
    """

    def __init__(self, config: ModelConfig, histories: Histories, generator: torch.Generator) -> None:
        super().__init__()
        self.code_kinds = histories.code_kinds
        codes, kinds = histories.cardinalities[: self.code_kinds], histories.cardinalities
        self.embedding = EventEmbedding(kinds, self.code_kinds, histories.numbers.shape[1], config.model_dim)
        self.encoder = Encoder(config, generator)
        self.norm = nn.LayerNorm(config.model_dim)
        self.dropout = ByteDropout(config.dropout)
        self.head = nn.Linear((1 + self.code_kinds) * config.model_dim, histories.classes)
        self.sums = self.groups = None
        if config.counting:
            self.sums = LogCountLogits(codes, histories.classes)
            self.groups = SoftGroupCounts(codes, config.model_dim, config.groups, histories.classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, categories: Categories, numbers: Numbers, days: Days, key_mask: Mask) -> tuple[Scores, Scalar]:
        """Scores of the classes, and the attentions' regulariser."""
        parts, regulariser = self.parts(categories, numbers, days, key_mask)
        return sum(parts.values()), regulariser

    def parts(
        self, categories: Categories, numbers: Numbers, days: Days, key_mask: Mask
    ) -> tuple[dict[str, Scores], Scalar]:
        """What the scores are the sum of: the "head" on the encoder and, unless plain, the "sums" and "groups"."""
        encoded, regulariser = self.encode(categories, numbers, days, key_mask)
        mean = key_mask / key_mask.sum(1, keepdim=True).clamp(min=1)
        codes = categories[..., : self.code_kinds]
        items = codes if self.sums is None else torch.cat([codes, crossed(categories, numbers)[..., None]], dim=-1)
        counts = COUNT_SCALE * inverse_occurrence(items, key_mask)
        weights = torch.cat([mean[..., None], counts[..., : self.code_kinds]], dim=-1)
        encoded = encoded.masked_fill(~key_mask[..., None], 0)
        pooled = (weights.to(encoded.dtype).transpose(1, 2) @ encoded).flatten(1)
        parts = {"head": self.head(self.dropout(pooled))}
        if self.sums is not None:
            parts |= {"sums": self.sums(items, counts), "groups": self.groups(encoded, codes, key_mask)}
        return parts, regulariser

    def encode(self, categories: Categories, numbers: Numbers, days: Days, key_mask: Mask) -> tuple[Events, Scalar]:
        """Every event in the light of the others, normalised, and the attentions' regulariser."""
        encoded, regulariser = self.encoder(self.dropout(self.embedding(categories, numbers, days)), key_mask)
        return self.norm(encoded), regulariser

    def attention_inputs(
        self, categories: Categories, numbers: Numbers, days: Days, key_mask: Mask
    ) -> list[tuple[MultiHeadAttention, Events]]:
        """Every layer's attention with the events that reach it, to look inside a trained model."""
        events, inputs = self.embedding(categories, numbers, days), []
        for layer in self.encoder.layers:
            inputs.append((layer.attention, layer.attention_norm(layer.with_neighbours(events, key_mask))))
            events, _ = layer(events, key_mask)
        return inputs

    def redraw(self, generator: torch.Generator) -> None:
        """Fresh random draws for every attention that has any."""
        for layer in self.encoder.layers:
            if isinstance(layer.attention, MultiHeadAttention):
                layer.attention.redraw(generator)
