"""One encoder classifier of event histories in which only the attention differs."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.infinite_former import InfiniteFormerAttention
from lib.performer import PerformerAttention
from lib.softmax import ExplicitSoftmaxAttention, MultiHeadAttention, SoftmaxAttention


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes the network; the mechanisms' own settings are ignored by the others."""

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


def build_attention(config: ModelConfig, generator: torch.Generator) -> MultiHeadAttention:
    """The attention module that the configuration names. Raises ValueError with the known names for any other."""
    known = {
        "softmax": SoftmaxAttention,
        "explicit_softmax": ExplicitSoftmaxAttention,
        "performer": partial(
            PerformerAttention,
            generator=generator,
            features=config.features,
            kernel=config.kernel,
            projection=config.projection,
        ),
        "infinite_former": partial(
            InfiniteFormerAttention,
            basis=config.basis,
            segment=config.segment,
            sampling=config.sampling,
            contraction=config.contraction,
            samples=config.samples,
        ),
    }
    if config.attention not in known:
        raise ValueError(f"unknown attention {config.attention!r}; known: {', '.join(known)}")
    return known[config.attention](config.model_dim, config.heads)


class EventEmbedding(nn.Module):
    """Sum of the categories' embeddings, the numbers' projection and sinusoids of the event's age in days."""

    def __init__(self, cardinalities: tuple[int, ...], numbers: int, model_dim: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, model_dim) for count in cardinalities)
        self.numbers = nn.Sequential(nn.Linear(numbers, model_dim), nn.GELU(), nn.Linear(model_dim, model_dim))
        self.age = nn.Linear(model_dim, model_dim)
        self.norm = nn.LayerNorm(model_dim)
        for table in self.tables:
            nn.init.normal_(table.weight, std=len(self.tables) ** -0.5)
        wavelengths = torch.logspace(0, math.log10(1000), model_dim // 2)
        self.register_buffer("frequencies", 2 * math.pi / wavelengths, persistent=False)

    def forward(
        self,
        categories: Int[Tensor, "batch length kinds"],
        numbers: Float[Tensor, "batch length numbers"],
        days: Float[Tensor, "batch length"],
    ) -> Float[Tensor, "batch length model_dim"]:
        angles = days[..., None] * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
        embedded = self.numbers(numbers) + self.age(waves)
        for position, table in enumerate(self.tables):
            embedded = embedded + table(categories[..., position])
        return self.norm(embedded)


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
        self.dropout = nn.Dropout(config.dropout)

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


class Classifier(nn.Module):
    """Class scores of a history: embedding, encoder, pooling over the real events, linear head.

    The pooled vector holds the mean of the encoded events and log(1 + sum) of a non-negative image of them: the second
    is a learned, soft count of events, as the logarithm of counts is what a bag-of-codes model sees.
    """

    def __init__(
        self, config: ModelConfig, cardinalities: tuple[int, ...], numbers: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.embedding = EventEmbedding(cardinalities, numbers, config.model_dim)
        self.encoder = Encoder(config, generator)
        self.norm = nn.LayerNorm(config.model_dim)
        self.counts = nn.Linear(config.model_dim, config.model_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * config.model_dim, config.classes)

    def forward(
        self,
        categories: Int[Tensor, "batch length kinds"],
        numbers: Float[Tensor, "batch length numbers"],
        days: Float[Tensor, "batch length"],
        key_mask: Bool[Tensor, "batch length"],
    ) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, ""]]:
        encoded, regulariser = self.encoder(self.dropout(self.embedding(categories, numbers, days)), key_mask)
        real = key_mask[..., None].to(encoded.dtype)
        encoded = self.norm(encoded) * real
        mean = encoded.sum(1) / real.sum(1).clamp(min=1)
        counted = torch.log1p((nn.functional.softplus(self.counts(encoded)) * real).sum(1))
        return self.head(self.dropout(torch.cat([mean, counted], dim=-1))), regulariser

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
