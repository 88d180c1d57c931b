"""What is measured: one call of one mechanism, prepared so that nothing but the call itself is inside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from lib.training.classifier import Encoder, ModelConfig, build_attention
from study.mechanisms import MECHANISMS, OWN

MODULES = ("explicit_softmax", *MECHANISMS)
SCOPES = ("attention", "encoder")
DIRECTIONS = ("forward", "training")


@dataclass(frozen=True)
class Configuration:
    """One thing to measure; a mechanism ignores the settings that are not its own.

    `scope` is `attention` (one layer with its projections) or `encoder`; `direction` is `forward` (no gradient) or
    `training` (forward and backward). Raises ValueError for what is unknown, and for a causal encoder.
    """

    mechanism: str
    scope: str = "attention"
    direction: str = "forward"
    length: int = 1024
    batch: int = 1
    heads: int = 4
    head_dim: int = 16
    features: int = 64
    basis: int = 64
    segment: int = 128
    sampling: str = "sticky"
    causal: bool = False
    device: str = "cpu"
    threads: int = 1
    layers: int = 2
    feedforward_dim: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in {"scope": SCOPES, "direction": DIRECTIONS, "mechanism": MODULES}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}")
        if self.causal and self.scope == "encoder":
            raise ValueError("causal attention is measured in scope attention only")

    @property
    def matrix_bytes(self) -> int:
        """Size of one query-by-key matrix of all heads."""
        return self.batch * self.heads * self.length**2 * 4


def grid(base: Configuration, **values: Sequence) -> list[Configuration]:
    """The base with every combination of the given values of its settings."""
    return [replace(base, **dict(zip(values, chosen, strict=True))) for chosen in product(*values.values())]


def model_config(configuration: Configuration) -> ModelConfig:
    """The network that the configuration describes, without dropout."""
    alike = ("heads", "layers", "feedforward_dim", "features", "basis", "segment", "sampling")
    return ModelConfig(
        attention=OWN.get(configuration.mechanism, configuration.mechanism),
        model_dim=configuration.heads * configuration.head_dim,
        dropout=0.0,
        **{name: getattr(configuration, name) for name in alike},
    )


def build(configuration: Configuration) -> tuple[torch.nn.Module, Tensor]:
    """The layer or encoder, in evaluation mode, and random events for it."""
    config, generator = model_config(configuration), torch.Generator().manual_seed(configuration.seed)
    with torch.random.fork_rng():
        torch.manual_seed(configuration.seed)
        if configuration.scope == "encoder":
            layer = Encoder(config, generator)
        else:
            layer = build_attention(config, generator, configuration.causal)
    events = torch.randn(configuration.batch, configuration.length, config.model_dim, generator=generator)
    return layer.to(configuration.device).eval(), events.to(configuration.device)


def prepare(configuration: Configuration) -> Callable[[], object]:
    """The call to measure: a forward pass without gradients, or forward and backward."""
    layer, events = build(configuration)

    def forward() -> Tensor:
        with torch.no_grad():
            return layer(events)[0]

    if configuration.direction == "forward":
        return forward
    generator = torch.Generator().manual_seed(configuration.seed)
    upstream = torch.randn(events.shape, generator=generator).to(configuration.device)
    leaves = (events.requires_grad_(), *layer.parameters())

    def training() -> tuple[Tensor | None, ...]:
        output, regulariser = layer(events)
        roots, gradients = [output], [upstream]
        if regulariser.requires_grad:
            roots, gradients = [output, regulariser], [upstream, torch.ones_like(regulariser)]
        return torch.autograd.grad(roots, leaves, gradients, allow_unused=True)

    return training
