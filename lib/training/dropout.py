"""Dropout from random bytes: eight entries share one 64-bit draw, where the framework draws a number for every entry.

Draws are serial on a CPU, and one for every entry is up to a fifth of an epoch of small networks. The price is that the
share dropped is a multiple of 1/256; what is kept is scaled by exactly that share, so that the mean is kept.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

LEVELS = 256  # of a byte
BYTES = 8  # of one draw


def random_bytes(count: int, device: torch.device) -> UInt8[Tensor, " count"]:
    """Independent uniform bytes from the framework's generator of the device."""
    words = torch.empty(-(-count // BYTES), dtype=torch.int64, device=device)
    return words.random_(torch.iinfo(words.dtype).min, None).view(torch.uint8)[:count]


def dropout(inputs: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
    """Each entry is zero with probability `share`, to the nearest 1/256, or else divided by the probability kept.

    Raises ValueError unless the share is at least 0 and rounds to less than 1.
    """
    dropped = round(LEVELS * share)
    if share < 0 or dropped >= LEVELS:
        raise ValueError(f"the share dropped must be at least 0 and round to less than 1, got {share}")
    if not dropped:
        return inputs
    kept = random_bytes(inputs.numel(), inputs.device).view(inputs.shape) >= dropped
    return inputs * kept.to(inputs.dtype).mul_(LEVELS / (LEVELS - dropped))


class ByteDropout(nn.Dropout):
    """The framework's module with cheaper draws; the identity in evaluation mode."""

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return dropout(inputs, self.p) if self.training else inputs
