"""FAVOR+: softmax attention in linear time through random features (Choromanski et al. 2021)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.softmax import MultiHeadAttention


def orthogonal_projection(
    features: int, head_dim: int, generator: torch.Generator
) -> Float[Tensor, "features head_dim"]:
    """Haar-distributed orthogonal blocks with chi-distributed norms (Choromanski et al. 2021, section 2.4)."""
    blocks = -(-features // head_dim)
    gaussian = torch.randn(blocks, head_dim, head_dim, generator=generator, device=generator.device)
    basis, triangle = torch.linalg.qr(gaussian)
    rows = (basis * triangle.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]).transpose(1, 2).flatten(0, 1)[:features]
    return rows * torch.randn(features, head_dim, generator=generator, device=generator.device).norm(dim=1)[:, None]


def favor_attention(
    queries: Float[Tensor, "batch heads query_length head_dim"],
    keys: Float[Tensor, "batch heads key_length head_dim"],
    values: Float[Tensor, "batch heads key_length head_dim"],
    projection: Float[Tensor, "features head_dim"],
    kernel: str = "positive",
    causal: bool = False,
    key_mask: Bool[Tensor, "batch key_length"] | None = None,
) -> Float[Tensor, "batch heads query_length head_dim"]:
    if kernel != "positive" or causal:
        raise NotImplementedError
    scale = queries.shape[-1] ** -0.25
    query_logits = queries * scale @ projection.T
    key_logits = keys * scale @ projection.T - (keys * scale).square().sum(-1, keepdim=True) / 2
    if key_mask is not None:
        key_logits = key_logits.masked_fill(~key_mask[:, None, :, None], -1e30)
    query_features = (query_logits - query_logits.amax(-1, keepdim=True)).exp()
    key_features = (key_logits - key_logits.amax((-2, -1), keepdim=True)).exp()
    if key_mask is not None:
        key_features = key_features * key_mask[:, None, :, None]
    numerator = query_features @ (key_features.transpose(-2, -1) @ values)
    denominator = query_features @ key_features.sum(-2).unsqueeze(-1)
    return numerator / denominator.masked_fill(denominator == 0, 1)


class PerformerAttention(MultiHeadAttention):
    """Performer attention; the projection is a buffer and changes only in `redraw`."""

    def __init__(
        self,
        model_dim: int,
        heads: int,
        generator: torch.Generator,
        features: int = 64,
        kernel: str = "positive",
        projection: str = "orthogonal",
        causal: bool = False,
    ):
        super().__init__(model_dim, heads, causal)
        self.features = features
        self.kernel = kernel
        self.register_buffer("projection", torch.empty(features, self.head_dim))
        self.redraw(generator)

    def redraw(self, generator: torch.Generator) -> None:
        """Replace the projection by a fresh draw."""
        self.projection.copy_(orthogonal_projection(self.features, self.head_dim, generator))

    def attend(
        self,
        queries: Float[Tensor, "batch heads length head_dim"],
        keys: Float[Tensor, "batch heads length head_dim"],
        values: Float[Tensor, "batch heads length head_dim"],
        key_mask: Bool[Tensor, "batch length"] | None,
    ) -> Float[Tensor, "batch heads length head_dim"]:
        return favor_attention(queries, keys, values, self.projection, self.kernel, self.causal, key_mask)
