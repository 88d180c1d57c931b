"""The ∞-former (Martins et al. 2022): attention inside a segment plus a read of a continuous memory of all before it.

A history is walked in segments. The output of a segment is Z = Z_T + Z_LTM: softmax attention among its own events,
and a read, by the same queries, of a memory of the segments before it that holds nothing of the segment itself. In the
first segment the memory is empty and Z_LTM is zero. Gradients flow through the memory to the events written into it,
unless `through_memory` is off.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.attention.continuous_memory import (
    Basis,
    Density,
    Update,
    basis_values,
    cell_middles,
    density_masses,
    gaussian_basis,
    gaussian_divergence,
    gaussian_read,
    quantile_times,
    ridge_update,
)
from lib.attention.segments import SegmentMemoryAttention

SAMPLINGS = ("sticky", "sticky_random", "uniform", "even")
# Far below the variance of any useful basis; keeps the logarithm in the regulariser finite.
LEAST_VARIANCE = 1e-6


class InfiniteFormerAttention(SegmentMemoryAttention):
    """Segment-local softmax attention plus continuous attention over an unbounded memory of radial basis functions.

    `sampling` says how an update reads the past back: at equal steps ("uniform"); denser where the segment attended
    ("sticky", stratified and deterministic; "sticky_random", the paper's independent draws, from `generator`); or at
    equal steps with the share τ = n / (n + r) for n events seen and r new ones ("even"), which keeps the whole past at
    one resolution instead of letting it shrink by `contraction` each time. `widths` are in units of the centres'
    spacing; `initial_widths` are the heads' first standard deviations on [0, 1], narrow for the newest events;
    `prior_width` is the deviation that the regulariser pulls to. Raises ValueError for values that cannot work.
    """

    def __init__(
        self,
        model_dim: int,
        heads: int,
        basis: int = 64,
        segment: int = 128,
        sampling: str = "sticky",
        contraction: float = 0.75,
        samples: int = 256,
        causal: bool = False,
        widths: tuple[float, ...] = (1.0,),
        ridge: float = 0.5,
        bins: int = 128,
        prior_width: float = 0.1,
        initial_widths: tuple[float, float] = (0.4, 0.05),
        through_memory: bool = True,
        generator: torch.Generator | None = None,
    ):
        if sampling not in SAMPLINGS:
            raise ValueError(f"unknown sampling {sampling!r}; known: {', '.join(SAMPLINGS)}")
        if not 0 < contraction < 1:
            raise ValueError(f"contraction must lie between 0 and 1, got {contraction}")
        if samples < basis:
            raise ValueError(f"fewer samples than basis functions let the memory explode, got {samples} < {basis}")
        if (sampling == "sticky_random") != (generator is not None):
            raise ValueError("a generator is needed by the sampling 'sticky_random' and by no other")
        even = sampling == "even"
        super().__init__(model_dim, heads, basis, segment, None if even else contraction, causal, through_memory)
        functions = gaussian_basis(basis, widths)
        self.sampling = sampling
        self.samples = samples
        self.ridge = ridge
        self.bins = bins
        self.prior_width = prior_width
        self.generator = generator
        self.deviations = functions.deviations
        self.register_buffer("centres", functions.centres, persistent=False)
        self.affine_weight = nn.Parameter(torch.empty(2, heads, basis).uniform_(-1, 1) * basis**-0.5)
        places = torch.linspace(0.1, 0.9, heads) if heads > 1 else torch.tensor([0.5])
        spreads = torch.logspace(*(math.log10(width) for width in initial_widths), heads).square()
        self.affine_bias = nn.Parameter(torch.stack([torch.logit(places), spreads.expm1().log()]))
        self.register_whole_updates()

    @property
    def functions(self) -> Basis:
        """The basis on the module's device, in double precision."""
        return Basis(self.centres, self.deviations)

    def solve(self, kept: Float[Tensor, " rows"], counts: Int[Tensor, " rows"]) -> Update:
        update = ridge_update(self.functions, kept, counts, self.samples, self.segment, self.ridge)
        if self.sampling.startswith("sticky"):
            return update
        # At times that never change, reading back and regressing are one constant matrix.
        readback = basis_values(cell_middles(self.samples, counts.device), self.functions)
        return Update(update.past @ readback, update.new)

    def density(
        self,
        queries: Float[Tensor, "batch heads length head_dim"],
        coefficients: Float[Tensor, "batch basis model_dim"],
    ) -> Density:
        """μ = sigmoid and σ² = softplus of an affine map of each query's scores over the basis.

        The map is applied to the keys before the queries meet them, so that no length by basis scores exist. Scores are
        multiplied by the number of basis functions, as the coefficients of normalised densities are smaller than the
        signal by about this factor.
        """
        with torch.autocast(queries.device.type, enabled=False):
            weight = self.affine_weight * (self.basis * self.head_dim**-0.5)
            mixed = torch.einsum("phn,bnm->bphm", weight, coefficients)
            key_weight = self.memory_keys.weight.unflatten(0, (self.heads, self.head_dim))
            keys = torch.einsum("bphm,hdm->bhpd", mixed, key_weight)
            logits = keys @ queries.to(keys.dtype).mT + self.affine_bias.T[..., None]
            place, spread = logits.unbind(2)
            return Density(place.sigmoid(), F.softplus(spread) + LEAST_VARIANCE)

    def read(
        self,
        queries: Float[Tensor, "batch heads length head_dim"],
        coefficients: Float[Tensor, "batch basis model_dim"],
    ) -> tuple[Float[Tensor, "batch heads length head_dim"], Float[Tensor, "batch heads length"]]:
        density = self.density(queries, coefficients)
        values = self.memory_values(coefficients).unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)
        with torch.autocast(queries.device.type, enabled=False):
            context = gaussian_read(*density, self.functions, values.to(density.mean.dtype))
            return context, gaussian_divergence(density.variance, self.prior_width)

    def transition(
        self,
        past: Float[Tensor, "rows basis points"],
        coefficients: Float[Tensor, "batch basis model_dim"],
        queries: Float[Tensor, "batch heads length head_dim"],
        real: Bool[Tensor, "batch length"],
    ) -> Float[Tensor, "transitions basis basis"]:
        if not self.sampling.startswith("sticky"):
            return past
        with torch.no_grad():
            masses = density_masses(*self.density(queries, coefficients), real, self.bins)
            shape = (len(masses), self.samples)
            if self.generator is None:
                quantiles = cell_middles(self.samples, masses.device).to(masses.dtype).expand(shape).contiguous()
            else:
                drawn = torch.rand(shape, generator=self.generator, device=self.generator.device)
                quantiles = drawn.to(masses).sort(dim=-1).values
            return past @ basis_values(quantile_times(masses, quantiles), self.functions)
