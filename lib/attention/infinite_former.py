"""The ∞-former (Martins et al. 2022): attention inside a segment plus a read of a continuous memory of all before it.

A history is walked in segments. The output of a segment is Z = Z_T + Z_LTM: softmax attention among its own events,
and a read, by the same queries, of a memory of the segments before it that holds nothing of the segment itself. In the
first segment the memory is empty and Z_LTM is zero. Gradients flow through the memory to the events written into it,
unless `through_memory` is off.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.attention import Coefficients, Heads, Mask, PerQuery
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
from lib.attention.numerics import wide
from lib.attention.segment_memory import Geometry, SegmentMemoryAttention

SAMPLINGS = ("sticky", "sticky_random", "uniform", "even")
# Far below the variance of any useful basis; keeps the logarithm in the regulariser finite.
LEAST_VARIANCE = 1e-6
# In nats; where large norms make a density so flat that single precision could not add its divergences up.
MOST_DIVERGENCE = 1e30
# The inverse of the softplus of its square is still finite in single precision.
MOST_INITIAL_WIDTH = 9.0


@dataclass(frozen=True)
class MemorySettings(Geometry):
    """What shapes a continuous memory and the reading of it.

    `sampling` says how an update reads the past back: at equal steps ("uniform"); denser where the segment attended
    ("sticky", stratified and deterministic; "sticky_random", the paper's independent draws, from PyTorch's generator as
    in dropout); or at equal steps with the share τ = n / (n + r) for n events seen and r new ones ("even"), which keeps
    the whole past at one resolution instead of letting it shrink by `contraction` each time. `widths` are in units of
    the centres' spacing; `bins` is the resolution of what is sticky; `initial_widths` are the heads' first standard
    deviations on [0, 1], narrow for the newest events; `prior_width` is the deviation that the regulariser pulls to.
    Raises ValueError for values that cannot work.
    """

    sampling: str = "sticky"
    contraction: float = 0.75
    samples: int = 256
    widths: tuple[float, ...] = (1.0,)
    ridge: float = 0.5
    bins: int = 128
    prior_width: float = 0.1
    initial_widths: tuple[float, float] = (0.4, 0.05)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"unknown sampling {self.sampling!r}; known: {', '.join(SAMPLINGS)}")
        if not 0 < self.contraction < 1:
            raise ValueError(f"contraction must lie between 0 and 1, got {self.contraction}")
        if self.samples < self.basis:
            message = f"fewer samples than basis functions let the memory explode, got {self.samples} < {self.basis}"
            raise ValueError(message)
        if self.bins < 1:
            raise ValueError(f"bins must be at least one, got {self.bins}")
        for name in ("ridge", "prior_width"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not all(0 < width <= MOST_INITIAL_WIDTH for width in self.initial_widths):
            raise ValueError(f"initial_widths must lie between 0 and {MOST_INITIAL_WIDTH}, got {self.initial_widths}")
        self.functions("cpu")

    @property
    def share(self) -> float | None:
        return None if self.sampling == "even" else self.contraction

    @property
    def sticky(self) -> bool:
        """Whether the past is read back where it was attended to."""
        return self.sampling.startswith("sticky")

    def functions(self, device: torch.device | str) -> Basis:
        """The basis, in double precision."""
        return gaussian_basis(self.basis, self.widths, device)

    def update(self, kept: Float[Tensor, " rows"], counts: Int[Tensor, " rows"]) -> Update:
        functions = self.functions(counts.device)
        update = ridge_update(functions, kept, counts, self.samples, self.segment, self.ridge)
        if self.sticky:
            return update
        # At times that never change, reading back and regressing are one constant matrix.
        return Update(update.past @ basis_values(cell_middles(self.samples, counts.device), functions), update.new)


class InfiniteFormerAttention(SegmentMemoryAttention):
    """Z = softmax(Q Kᵀ / √d) V inside a segment + E_p[ψ]ᵀ V_B over the memory, p = N(μ, σ²) of each query and head."""

    def __init__(
        self,
        model_dim: int,
        heads: int,
        settings: MemorySettings = MemorySettings(),
        causal: bool = False,
        through_memory: bool = True,
    ):
        super().__init__(model_dim, heads, settings, causal, through_memory)
        self.settings = settings
        self.affine_weight = nn.Parameter(torch.empty(2, heads, self.basis).uniform_(-1, 1) * self.basis**-0.5)
        places = torch.linspace(0.1, 0.9, heads, dtype=torch.float32) if heads > 1 else torch.tensor([0.5]).float()
        limits = (math.log10(width) for width in settings.initial_widths)
        spreads = torch.logspace(*limits, heads, dtype=torch.float32).square()
        bias = torch.stack([torch.logit(places), spreads.expm1().log()])
        self.affine_bias = nn.Parameter(bias.to(self.affine_weight.dtype))

    @property
    def functions(self) -> Basis:
        """The basis on the module's device, in double precision."""
        return self.settings.functions(self.memory_keys.weight.device)

    def density(self, queries: Heads, coefficients: Coefficients) -> Density:
        """μ = sigmoid and σ² = softplus of an affine map of each query's scores over the basis.

        The map is applied to the keys before the queries meet them, so that no length by basis scores exist. Scores are
        multiplied by the number of basis functions, as the coefficients of normalised densities are smaller than the
        signal by about this factor.
        """
        dtype = wide(queries.dtype, coefficients.dtype)
        with torch.autocast(queries.device.type, enabled=False):
            weight = self.affine_weight.to(dtype) * (self.basis * self.head_dim**-0.5)
            mixed = torch.einsum("phn,bnm->bphm", weight, coefficients.to(dtype))
            key_weight = self.memory_keys.weight.to(dtype).unflatten(0, (self.heads, self.head_dim))
            keys = torch.einsum("bphm,hdm->bhpd", mixed, key_weight)
            logits = keys @ queries.to(dtype).mT + self.affine_bias.to(dtype).T[..., None]
            place, spread = logits.unbind(2)
            return Density(place.sigmoid(), F.softplus(spread) + LEAST_VARIANCE)

    def read(self, queries: Heads, coefficients: Coefficients) -> tuple[Heads, PerQuery]:
        density = self.density(queries, coefficients)
        values = self.memory_heads(self.memory_values, coefficients)
        with torch.autocast(queries.device.type, enabled=False):
            context = gaussian_read(*density, self.functions, values.to(density.mean.dtype))
            divergence = gaussian_divergence(density.variance, self.settings.prior_width)
        if divergence.dtype != coefficients.dtype:
            divergence = divergence.clamp(max=MOST_DIVERGENCE).to(coefficients.dtype)
        return context, divergence

    def transition(
        self, past: Float[Tensor, "rows basis points"], coefficients: Coefficients, queries: Heads, real: Mask
    ) -> Float[Tensor, "transitions basis basis"]:
        if not self.settings.sticky:
            return past
        with torch.no_grad():
            masses = density_masses(*self.density(queries, coefficients), real, self.settings.bins)
            shape = (len(masses), self.settings.samples)
            if self.settings.sampling == "sticky":
                quantiles = cell_middles(shape[1], masses.device).to(masses.dtype).expand(shape).contiguous()
            else:
                quantiles = torch.rand(shape, dtype=masses.dtype, device=masses.device).sort(dim=-1).values
            return past @ basis_values(quantile_times(masses, quantiles), self.functions).to(past.dtype)
