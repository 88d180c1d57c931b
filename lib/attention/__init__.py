"""The attention mechanisms; here are the shapes that their signatures share."""

from jaxtyping import Bool, Float
from torch import Tensor

Events = Float[Tensor, "batch length model_dim"]
Mask = Bool[Tensor, "batch length"]  # true at real events, false at padding
Heads = Float[Tensor, "batch heads length head_dim"]  # queries, keys, values or outputs, where all have one length
Queries = Float[Tensor, "batch heads query_length head_dim"]
Keys = Float[Tensor, "batch heads key_length head_dim"]
Values = Float[Tensor, "batch heads key_length value_dim"]
Outputs = Float[Tensor, "batch heads query_length value_dim"]
KeyMask = Bool[Tensor, "batch key_length"]
PerQuery = Float[Tensor, "batch heads length"]
Projection = Float[Tensor, "features head_dim"]  # the random directions of a kernel's features
Coefficients = Float[Tensor, "batch basis model_dim"]  # a memory: the weights of its basis functions
