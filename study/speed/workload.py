"""What is measured: one call of one mechanism, prepared so that nothing but the call itself is inside it."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lib.attention.infinite_former import InfiniteFormerAttention, MemorySettings
from lib.attention.performer import favor_attention
from lib.attention.random_features import orthogonal_projection
from lib.attention.softmax import explicit_softmax_attention, softmax_attention
from lib.training.classifier import Encoder, ModelConfig, build_attention
from study.speed import published

KERNELS = (
    "softmax",
    "explicit_softmax",
    "performer",
    "framework_softmax",
    "performer_pytorch",
    "matrix_products",
)
MODULES = ("softmax", "explicit_softmax", "performer", "infinite_former")
MEMORIES = ("infinite_former", "published_infinite_former")
PRODUCTS = ("square_product",)
SCOPES = {"kernel": KERNELS, "memory": MEMORIES, "attention": MODULES, "encoder": MODULES, "product": PRODUCTS}
TILE = 512


@dataclass(frozen=True)
class Configuration:
    """One thing to measure; a mechanism ignores the settings that are not its own.

    `scope` is `kernel` (a function of given queries, keys and values), `memory` (one update and one read of the
    ∞-former's memory by a segment of `length` events), `attention` (a layer with its projections), `encoder` or
    `product` (of two square matrices of `length` rows: the speed to compare with); `direction` is `forward` (no
    gradient) or `training` (forward and backward). Raises ValueError for a mechanism that the scope does not have, and
    for causal outside of kernels.
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
    """The call to measure. Raises ModuleNotFoundError for an implementation that is not installed."""
    alone = {"matrix_products": matrix_products, "square_product": square_product}
    if configuration.mechanism in alone:
        return alone[configuration.mechanism](configuration)
    calls = {"kernel": kernel_call, "memory": memory_call, "attention": layer_call, "encoder": layer_call}
    with torch.random.fork_rng():
        torch.manual_seed(configuration.seed)
        call = calls[configuration.scope](configuration)
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
    if configuration.mechanism == "performer_pytorch":
        # Benchmark only, see requirements-benchmark.txt; imported where it is used since few have it.
        from performer_pytorch import FastAttention

        peer = FastAttention(configuration.head_dim, configuration.features, causal=causal).to(configuration.device)
        attend = peer.forward
    elif configuration.mechanism == "framework_softmax":

        def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(queries, keys, values, is_causal=causal)

    elif configuration.mechanism == "performer":
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
    """The network that the configuration describes, without dropout."""
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


def memory_call(configuration: Configuration) -> Call:
    """A segment written into a memory that holds something, and read by its own queries."""
    queries = random_heads(configuration)[0]
    batch, model_dim, length = configuration.batch, configuration.heads * configuration.head_dim, configuration.length
    events = queries.transpose(1, 2).flatten(2)
    past = torch.full((batch, configuration.basis, model_dim), 0.1, device=configuration.device)
    if configuration.mechanism == "published_infinite_former":
        geometry = published.published_geometry(configuration.basis, length)
        geometry = published.PublishedGeometry(*(one.to(configuration.device) for one in geometry))
        maps = [torch.randn(model_dim, model_dim) * model_dim**-0.5 for _ in range(3)]
        affine = torch.randn(2, 1, configuration.basis) * configuration.basis**-0.5
        weights = published.PublishedWeights(*(one.to(configuration.device) for one in (*maps, *affine)))

        def published_forward() -> tuple[Tensor, Tensor]:
            return published.published_memory(events, queries, past, None, geometry, weights)[:2]

        return Call(published_forward, (queries, *weights), events.shape)
    settings = MemorySettings(configuration.basis, length, configuration.sampling, samples=512)
    layer = InfiniteFormerAttention(model_dim, configuration.heads, settings).to(configuration.device)
    every = torch.ones(batch, length, dtype=torch.bool, device=configuration.device)

    def forward() -> tuple[Tensor, Tensor]:
        coefficients = layer.write(past, queries, events, every, layer.whole_update(1))
        context, regulariser = layer.read(queries, coefficients)
        return layer.memory_projection(context.transpose(1, 2).flatten(2)), regulariser.mean()

    around = ("in_projection", "out_projection")
    own = [weight for name, weight in layer.named_parameters() if not name.startswith(around)]
    return Call(forward, (queries, *own), events.shape)


def matrix_products(configuration: Configuration) -> Callable[[], None]:
    """Only the matrix products that FAVOR+ needs, in tiles into buffers that exist: what no implementation can beat.

    Four products of length x features x head_dim forward (two projections, context, read-out); training adds six for
    the gradients and recomputes the two projections.
    """
    tile = min(TILE, configuration.length)
    if configuration.length % tile:
        raise ValueError(f"matrix products are measured at multiples of {tile} events, not at {configuration.length}")
    flat = [tensor.flatten(0, 1) for tensor in random_heads(configuration)]
    tiles = [[part.contiguous() for part in tensor.split(tile, dim=1)] for tensor in flat]
    projection = drawn_projection(configuration)
    wide = torch.randn(flat[0].shape[0], tile, configuration.features, device=configuration.device)
    narrow, context = torch.empty_like(tiles[0][0]), wide.mT @ tiles[2][0]
    wide_out, context_out = torch.empty_like(wide), torch.empty_like(context)
    training = configuration.direction == "training"

    def read_and_project(queries: Tensor, keys: Tensor, values: Tensor) -> None:
        torch.matmul(keys, projection.T, out=wide_out)
        torch.bmm(wide.mT, values, out=context_out)
        torch.matmul(queries, projection.T, out=wide_out)
        torch.bmm(wide, context, out=narrow)

    def gradients(queries: Tensor, keys: Tensor, values: Tensor) -> None:
        for inputs in (queries, keys):
            torch.matmul(inputs, projection.T, out=wide_out)
            torch.bmm(values, context.mT, out=wide_out)
            torch.matmul(wide, projection, out=narrow)
        torch.bmm(wide.mT, values, out=context_out)
        torch.bmm(wide, context, out=narrow)

    def run() -> None:
        for three in zip(*tiles, strict=True):
            read_and_project(*three)
            if training:
                gradients(*three)

    return run


def square_product(configuration: Configuration) -> Callable[[], Tensor]:
    """The product of two square Gaussian matrices into a buffer that exists: 2 length³ operations."""
    generator = torch.Generator().manual_seed(configuration.seed)
    shape = (2, configuration.length, configuration.length)
    left, right = torch.randn(shape, generator=generator).to(configuration.device)
    product = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=product)
