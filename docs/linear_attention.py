"""Linear attention (Katharopoulos et al. 2020): φ(Q) (φ(K)ᵀ V) over φ(Q) (φ(K)ᵀ 1) with φ(x) = elu(x) + 1."""

import torch.nn.functional as F

from lib.attention.mechanism import MultiHeadAttention


class LinearAttention(MultiHeadAttention):
    """Two matrix products in the place of softmax."""

    def attend(self, queries, keys, values, key_mask):
        queries, keys = F.elu(queries) + 1, F.elu(keys) + 1
        if key_mask is not None:
            keys = keys * key_mask[:, None, :, None]
        context = keys.transpose(2, 3) @ values
        total = queries @ keys.sum(2)[..., None]
        return queries @ context / total.clamp(min=1e-6)
