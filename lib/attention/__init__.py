"""The attention mechanisms; here are the shapes that their signatures share.

Lengths that differ have names of their own: `query_length` and `key_length`, or `length` where both are one.
"""

from jaxtyping import Bool, Float
from torch import Tensor

Events = Float[Tensor, "batch length model_dim"]
Mask = Bool[Tensor, "batch length"]
"""True at real events, false at padding."""
Heads = Float[Tensor, "batch heads length head_dim"]
"""Queries, keys, values or outputs of every head, where all have the same length."""
Queries = Float[Tensor, "batch heads query_length head_dim"]
Keys = Float[Tensor, "batch heads key_length head_dim"]
Values = Float[Tensor, "batch heads key_length value_dim"]
Outputs = Float[Tensor, "batch heads query_length value_dim"]
KeyMask = Bool[Tensor, "batch key_length"]
PerQuery = Float[Tensor, "batch heads length"]
"""One number for each query of each head."""
Projection = Float[Tensor, "features head_dim"]
"""The random directions of a kernel's features."""
Coefficients = Float[Tensor, "batch basis model_dim"]
"""A memory: the weights of its basis functions."""
