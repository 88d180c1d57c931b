"""The ∞-former (Martins et al. 2022): attention inside a segment plus a read of a continuous memory of all before it.

The output of a segment is Z = Z_T + Z_LTM: softmax attention among its own events, and a read, by the same queries, of
a memory that holds nothing of the segment itself. In the first segment the memory is empty and Z_LTM is zero.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.attention import Coefficients, Heads, Mask, PerQuery, wide
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
from lib.attention.segment_memory import Geometry, SegmentMemoryAttention

SAMPLINGS = ("sticky", "sticky_random", "uniform", "even")
PUBLISHED_SAMPLINGS = {"published": "uniform", "published_sticky": "sticky_random"}
PUBLISHED = {
    "sampling": "uniform",
    "prior_width": 0.05,
    "initial_widths": None,
    "scaled_scores": False,
    "right_ends": True,
    "zeros_outside": True,
    "least_variance": 1e-4,
    "through_memory": False,
}
"""How the authors' code differs from our own choices; notebook 03 shows what each costs."""


@dataclass(frozen=True)
class MemorySettings(Geometry):
    """What shapes a continuous memory and the reading of it; raises ValueError for values that cannot work.

    sampling          how an update reads the past back: at equal steps ("uniform"); denser where the segment attended
                      ("sticky", deterministic; "sticky_random", the paper's draws, from PyTorch's own generator); or at
                      equal steps with τ = n / (n + r) for n events seen and r new ones ("even"): one resolution for all
    contraction       the share τ of [0, 1] that every other sampling leaves to the past
    widths            of the functions, in units of their centres' spacing
    bins              resolution of what is sticky
    prior_width       the deviation that the regulariser pulls to
    initial_widths    first deviations of the heads' maps, from the oldest events to the newest; None: one linear map
    scaled_scores     logits whose start is the same for any number of functions
    right_ends        points at the right ends of their cells, not at the middles, in all updates but the first
    zeros_outside     the regression is told that the signal is zero outside [0, 1]
    """

    sampling: str = "sticky"
    contraction: float = 0.75
    samples: int = 256
    widths: tuple[float, ...] = (1.0,)
    ridge: float = 0.5
    bins: int = 128
    prior_width: float = 0.1
    initial_widths: tuple[float, float] | None = (0.4, 0.05)
    scaled_scores: bool = True
    right_ends: bool = False
    zeros_outside: bool = False
    least_variance: float = 1e-6

    @classmethod
    def published(cls, **settings) -> "MemorySettings":
        """The memory of the authors' code, with the settings given instead of its own."""
        return cls(**(PUBLISHED | settings))

    @classmethod
    def named(cls, sampling: str, **settings) -> "MemorySettings":
        """By the name of a sampling, or "published" or "published_sticky" for the memory of the authors' code."""
        kind = cls.published if sampling in PUBLISHED_SAMPLINGS else cls
        return kind(sampling=PUBLISHED_SAMPLINGS.get(sampling, sampling), **settings)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampling not in SAMPLINGS:
            known = ", ".join([*SAMPLINGS, *PUBLISHED_SAMPLINGS])
            raise ValueError(f"unknown sampling {self.sampling!r}; known: {known}")
        if not 0 < self.contraction < 1:
            raise ValueError(f"contraction must lie between 0 and 1, got {self.contraction}")
        for name in ("bins", "ridge", "prior_width", "least_variance"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        # The inverse of the softplus of a larger one's square is not finite in single precision.
        if not all(0 < width <= 9 for width in self.initial_widths or ()):
            raise ValueError(f"initial_widths must lie between 0 and 9, got {self.initial_widths}")
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
        functions, points = self.functions(counts.device), (self.samples, self.segment)
        update = ridge_update(functions, kept, counts, *points, self.ridge, self.right_ends, self.zeros_outside)
        if self.sticky:
            return update
        # At times that never change, reading back and regressing are one constant matrix.
        times = cell_middles(self.samples, counts.device) + (0.5 / self.samples if self.right_ends else 0.0)
        return Update(update.past @ basis_values(times, functions), update.new)


@lru_cache
def score_scale(settings: MemorySettings) -> float:
    """What scores are multiplied by, so that the start is the same for every number, width and ridge of the functions.

    Independent events of unit variance give coefficients of mean variance κ² = tr(GGᵀ) / N for G = (FᵀF + λI)⁻¹ Fᵀ.
    PyTorch's first weights give queries and keys a third of the events' variance and the affine map 1 / 3N, so that
    logits deviate by κ / 3√3: scaled to π / √3, that of the logistic distribution, μ starts spread over all the past.
    """
    points = 4 * settings.basis  # resolve the functions; each counts as a part of an event
    design = basis_values(cell_middles(points), settings.functions("cpu"))
    strengths = torch.linalg.eigvalsh(design.mT @ design * (settings.segment / points)).clamp(min=0)
    return 3 * math.pi * float((strengths / (strengths + settings.ridge).square()).mean().rsqrt())


class InfiniteFormerAttention(SegmentMemoryAttention):
    """Z = softmax(Q Kᵀ / √d) V inside a segment + E_p[ψ]ᵀ V_B over the memory, p = N(μ, σ²) of each query and head."""

    def __init__(self, model_dim: int, heads: int, settings: MemorySettings = MemorySettings(), causal: bool = False):
        super().__init__(model_dim, heads, settings, causal)
        if settings.samples < settings.basis:
            message = f"got {settings.samples} samples for {settings.basis} functions"
            raise ValueError(f"fewer samples than basis functions let the memory explode: {message}")
        self.settings = settings
        self.score_scale = score_scale(settings) if settings.scaled_scores else 1.0
        maps = 1 if settings.initial_widths is None else heads
        self.affine_weight = nn.Parameter(torch.empty(2, maps, self.basis).uniform_(-1, 1) * self.basis**-0.5)
        self.affine_bias = None
        if settings.initial_widths is None:
            return
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
        """μ = sigmoid and σ² = softplus of affine maps of each query's scores, which are folded into the keys."""
        dtype = wide(queries.dtype, coefficients.dtype)
        with torch.autocast(queries.device.type, enabled=False):
            weight = self.affine_weight.to(dtype).expand(-1, self.heads, -1) * self.head_dim**-0.5 * self.score_scale
            mixed = torch.einsum("phn,bnm->bphm", weight, coefficients.to(dtype))
            key_weight = self.memory_keys.weight.to(dtype).unflatten(0, (self.heads, self.head_dim))
            keys = torch.einsum("bphm,hdm->bhpd", mixed, key_weight)
            logits = keys @ queries.to(dtype).mT
            if self.affine_bias is not None:
                logits = logits + self.affine_bias.to(dtype).T[..., None]
            place, spread = logits.unbind(2)
            return Density(place.sigmoid(), F.softplus(spread).clamp(min=self.settings.least_variance))

    def read(self, queries: Heads, coefficients: Coefficients) -> tuple[Heads, PerQuery]:
        density = self.density(queries, coefficients)
        values = self.memory_heads(self.memory_values, coefficients)
        with torch.autocast(queries.device.type, enabled=False):
            context = gaussian_read(*density, self.functions, values.to(density.mean.dtype))
            divergence = gaussian_divergence(density.variance, self.settings.prior_width)
        if divergence.dtype != coefficients.dtype:
            # Large norms make a density so flat that single precision could not add its divergences up.
            divergence = divergence.clamp(max=1e30).to(coefficients.dtype)
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
