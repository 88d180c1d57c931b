"""What is measured: one call of one mechanism, prepared so that nothing but the call itself is inside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from lib.attention.mechanism import AttentionOutput
from lib.attention.performer import favor_attention
from lib.attention.random_features import orthogonal_projection
from lib.attention.softmax import explicit_softmax_attention, softmax_attention
from lib.training.classifier import Encoder, ModelConfig, build_attention

KERNELS = ("softmax", "explicit_softmax", "performer")
MODULES = (*KERNELS, "infinite_former")
SCOPES = {"kernel": KERNELS, "attention": MODULES, "encoder": MODULES}
DIRECTIONS = ("forward", "training")


@dataclass(frozen=True)
class Configuration:
    """One thing to measure; a mechanism ignores the settings that are not its own.

    `scope` is `kernel` (a function of given queries, keys and values), `attention` (a layer with its projections) or
    `encoder`; `direction` is `forward` (no gradient) or `training` (forward and backward). Raises ValueError for a
    mechanism that the scope does not have, and for causal outside of kernels.
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
        choices = {"scope": SCOPES, "direction": DIRECTIONS, "mechanism": SCOPES.get(self.scope, ())}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}")
        if self.causal and self.scope != "kernel":
            raise ValueError("causal attention is measured in scope kernel only")

    @property
    def matrix_bytes(self) -> int:
        """Size of one query-by-key matrix of all heads."""
        return self.batch * self.heads * self.length**2 * 4


def grid(base: Configuration, **values: Sequence) -> list[Configuration]:
    """The base with every combination of the given values of its settings."""
    return [replace(base, **dict(zip(values, chosen, strict=True))) for chosen in product(*values.values())]


Attend = Callable[[], tuple[Tensor, Tensor]]


def prepare(configuration: Configuration) -> Callable[[], object]:
    """The call to measure: a forward pass without gradients, or forward and backward."""
    with torch.random.fork_rng():
        torch.manual_seed(configuration.seed)
        attend, leaves = (kernel_call if configuration.scope == "kernel" else layer_call)(configuration)

    def forward() -> Tensor:
        with torch.no_grad():
            return attend()[0]

    if configuration.direction == "forward":
        return forward
    generator = torch.Generator().manual_seed(configuration.seed)
    upstream = torch.randn(leaves[0].shape, generator=generator).to(configuration.device)
    for leaf in leaves:
        leaf.requires_grad_()

    def training() -> tuple[Tensor | None, ...]:
        output, regulariser = attend()
        roots, gradients = [output], [upstream]
        if regulariser.requires_grad:
            roots, gradients = [output, regulariser], [*gradients, torch.ones_like(regulariser)]
        return torch.autograd.grad(roots, leaves, gradients, allow_unused=True)

    return training


def kernel_call(configuration: Configuration) -> tuple[Attend, tuple[Tensor, ...]]:
    """A function of Gaussian queries, keys and values, and these."""
    generator = torch.Generator().manual_seed(configuration.seed)
    shape = (3, configuration.batch, configuration.heads, configuration.length, configuration.head_dim)
    given = tuple(torch.randn(shape, generator=generator).to(configuration.device))
    functions = {"softmax": softmax_attention, "explicit_softmax": explicit_softmax_attention}
    if configuration.mechanism == "performer":
        functions["performer"] = partial(favor_attention, projection=drawn_projection(configuration))
    function, nothing = functions[configuration.mechanism], torch.zeros(())

    def attend() -> AttentionOutput:
        return AttentionOutput(function(*given, causal=configuration.causal), nothing)

    return attend, given


def drawn_projection(configuration: Configuration) -> Float[Tensor, "features head_dim"]:
    """Orthogonal random features of the configuration's seed."""
    generator = torch.Generator().manual_seed(configuration.seed)
    return orthogonal_projection(configuration.features, configuration.head_dim, generator).to(configuration.device)


def model_config(configuration: Configuration) -> ModelConfig:
    """The network that the configuration describes, without dropout."""
    alike = ("heads", "layers", "feedforward_dim", "features", "basis", "segment", "sampling")
    return ModelConfig(
        attention=configuration.mechanism,
        model_dim=configuration.heads * configuration.head_dim,
        dropout=0.0,
        **{name: getattr(configuration, name) for name in alike},
    )


def layer_call(configuration: Configuration) -> tuple[Attend, tuple[Tensor, ...]]:
    """One attention layer with its projections, or an encoder, over random events; the events and the weights."""
    generator = torch.Generator().manual_seed(configuration.seed)
    config = model_config(configuration)
    build = build_attention if configuration.scope == "attention" else Encoder
    layer = build(config, generator).to(configuration.device).eval()
    events = torch.randn(configuration.batch, configuration.length, config.model_dim, generator=generator)
    events = events.to(configuration.device)
    return lambda: layer(events), (events, *layer.parameters())
