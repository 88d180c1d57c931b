"""What is measured: one call of one mechanism, prepared so that nothing but the call itself is inside it."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from lib.attention.performer import favor_attention
from lib.attention.random_features import orthogonal_projection
from lib.attention.softmax import explicit_softmax_attention, softmax_attention
from lib.training.classifier import Encoder, ModelConfig, build_attention

KERNELS = ("softmax", "explicit_softmax", "performer")
MODULES = ("softmax", "explicit_softmax", "performer", "infinite_former")
SCOPES = {"kernel": KERNELS, "attention": MODULES, "encoder": MODULES}


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
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    layers: int = 2
    feedforward_dim: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {"scope": SCOPES, "direction": ("forward", "training"), "dtype": ("float32", "bfloat16")}
        for name, known in {**choices, "mechanism": SCOPES.get(self.scope, ())}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}")
        if self.causal and self.scope != "kernel":
            raise ValueError("causal attention is measured in scope kernel only")

    @property
    def matrix_bytes(self) -> int:
        """Size of one query-by-key matrix of all heads."""
        return self.batch * self.heads * self.length**2 * (4 if self.dtype == "float32" else 2)


@dataclass(frozen=True)
class Call:
    """A forward pass whose inputs exist, and the tensors that training wants gradients of."""

    forward: Callable[[], tuple[Tensor, Tensor | None]]
    leaves: tuple[Tensor, ...]
    output_shape: torch.Size


def prepare(configuration: Configuration) -> Callable[[], object]:
    """The call to measure."""
    with torch.random.fork_rng():
        torch.manual_seed(configuration.seed)
        call = (kernel_call if configuration.scope == "kernel" else layer_call)(configuration)
    mixed = configuration.dtype != "float32"

    def precision() -> torch.autocast | nullcontext:
        return torch.autocast(configuration.device, torch.bfloat16) if mixed else nullcontext()

    def forward() -> Tensor:
        with torch.no_grad(), precision():
            return call.forward()[0]

    if configuration.direction == "forward":
        return forward
    generator = torch.Generator().manual_seed(configuration.seed)
    upstream = torch.randn(call.output_shape, generator=generator).to(configuration.device)
    for leaf in call.leaves:
        leaf.requires_grad_()

    def training() -> tuple[Tensor | None, ...]:
        with precision():
            output, regulariser = call.forward()
        roots, gradients = [output], [upstream.to(output.dtype)]
        if regulariser is not None and regulariser.requires_grad:
            roots, gradients = [output, regulariser], [*gradients, torch.ones_like(regulariser)]
        return torch.autograd.grad(roots, call.leaves, gradients, allow_unused=True)

    return training


def small(configuration: Configuration) -> Configuration:
    """The same code path over few events: what a first call allocates once is then allocated."""
    return replace(configuration, length=min(configuration.length, 2 * configuration.segment))


def random_heads(configuration: Configuration) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussian queries, keys and values."""
    generator = torch.Generator().manual_seed(configuration.seed)
    shape = (3, configuration.batch, configuration.heads, configuration.length, configuration.head_dim)
    return tuple(tensor.contiguous() for tensor in torch.randn(shape, generator=generator).to(configuration.device))


def kernel_call(configuration: Configuration) -> Call:
    """A function of queries, keys and values."""
    queries, keys, values = random_heads(configuration)
    causal = configuration.causal
    if configuration.mechanism == "performer":
        projection = drawn_projection(configuration)

        def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            return favor_attention(queries, keys, values, projection, causal=causal)

    else:
        functions = {"softmax": softmax_attention, "explicit_softmax": explicit_softmax_attention}
        function = functions[configuration.mechanism]

        def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            return function(queries, keys, values, causal=causal)

    return Call(lambda: (attend(queries, keys, values), None), (queries, keys, values), values.shape)


def drawn_projection(configuration: Configuration) -> Float[Tensor, "features head_dim"]:
    """Orthogonal random features of the configuration's seed."""
    generator = torch.Generator().manual_seed(configuration.seed)
    return orthogonal_projection(configuration.features, configuration.head_dim, generator).to(configuration.device)


def model_config(configuration: Configuration) -> ModelConfig:
    """The network that the configuration describes, without dropout, places and convolution."""
    return ModelConfig(
        attention=configuration.mechanism,
        model_dim=configuration.heads * configuration.head_dim,
        heads=configuration.heads,
        layers=configuration.layers,
        feedforward_dim=configuration.feedforward_dim,
        dropout=0.0,
        features=configuration.features,
        basis=configuration.basis,
        segment=configuration.segment,
        sampling=configuration.sampling,
        places="none",
        convolution=0,
    )


def layer_call(configuration: Configuration) -> Call:
    """One attention layer with its projections, or an encoder, over random events of full length."""
    generator = torch.Generator().manual_seed(configuration.seed)
    config = model_config(configuration)
    build = build_attention if configuration.scope == "attention" else Encoder
    layer = build(config, generator).to(configuration.device).eval()
    events = torch.randn(configuration.batch, configuration.length, config.model_dim, generator=generator)
    events = events.to(configuration.device)

    def forward() -> tuple[Tensor, Tensor]:
        output, regulariser = layer(events)
        return output, regulariser

    return Call(forward, (events, *layer.parameters()), events.shape)
