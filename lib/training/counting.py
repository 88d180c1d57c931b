"""What counting tells of a history, beside the encoder: sums over codes, and logarithms of soft counts of groups."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

COUNT_SCALE = 0.1
SIZES = 32  # classes of a number's size and sign, each a factor e wide
MEMBERSHIP = -1.0  # where the membership of an event in a group starts, before the softplus


def crossed(
    categories: Int[Tensor, "batch length kinds"], numbers: Float[Tensor, "batch length numbers"]
) -> Int[Tensor, "batch length"]:
    """The first code together with the size of the first number, whose logarithm is signed: one of codes x SIZES."""
    size = numbers[..., 0].floor().long().clamp(-SIZES // 2, SIZES // 2 - 1) + SIZES // 2
    return categories[..., 0] * SIZES + size


def inverse_occurrence(
    items: Int[Tensor, "batch length kinds"], key_mask: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch length kinds"]:
    """One over how often the event's item has occurred in the history so far, for every kind of item.

    Summed over a history this gives about the logarithm of each item's count (the harmonic numbers), the scale on
    which counts are informative. Zero on padding.
    """
    place = torch.arange(items.shape[1], device=items.device).expand_as(key_mask)
    weights = []
    for item in items.unbind(-1):
        codes = torch.where(key_mask, item, -1)
        order = codes.argsort(dim=1, stable=True)
        sorted_codes = codes.gather(1, order)
        starts = F.pad(sorted_codes[:, 1:] != sorted_codes[:, :-1], (1, 0), value=True)
        first = torch.where(starts, place, 0).cummax(1).values
        occurrence = torch.zeros_like(place).scatter(1, order, place - first + 1)
        weights.append(key_mask / occurrence)
    return torch.stack(weights, dim=-1)


class LogCountLogits(nn.Module):
    """Scores that are linear in the logarithms of counts: a logistic regression beside the encoder.

    Counted are the codes, and the first code by the size of the first number: the wide part with its cross-product of
    Cheng et al. 2016. Zero at the start.
    """

    def __init__(self, cardinalities: tuple[int, ...], classes: int) -> None:
        super().__init__()
        counts = (*cardinalities, cardinalities[0] * SIZES)
        self.tables = nn.ModuleList(nn.Embedding(count, classes) for count in counts)
        for table in self.tables:
            nn.init.zeros_(table.weight)

    def forward(
        self, items: Int[Tensor, "batch length items"], counts: Float[Tensor, "batch length items"]
    ) -> Float[Tensor, "batch classes"]:
        """From each event's items and their weights in the counts."""
        terms = zip(items.unbind(-1), counts.unbind(-1), self.tables, strict=True)
        return sum((count[..., None] * table(item)).sum(1) for item, count, table in terms)


class SoftGroupCounts(nn.Module):
    """Scores that are linear in log(1 + how many events belong to a group), for a few groups that are learned.

    An event belongs to a group by the softplus of a weight of each of its codes, moved by its encoding: what it counts
    as may depend on what the attention saw. Sums of logarithms of counts cannot tell such totals over many codes.
    """

    def __init__(self, cardinalities: tuple[int, ...], model_dim: int, groups: int, classes: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, groups) for count in cardinalities)
        self.head = nn.Linear(groups, classes, bias=False)
        self.context = nn.Linear(model_dim, groups)
        nn.init.normal_(self.head.weight, std=0.1)
        nn.init.zeros_(self.context.weight)
        nn.init.constant_(self.context.bias, MEMBERSHIP)

    def forward(
        self,
        encoded: Float[Tensor, "batch length model_dim"],
        codes: Int[Tensor, "batch length kinds"],
        key_mask: Bool[Tensor, "batch length"],
    ) -> Float[Tensor, "batch classes"]:
        moved = self.context(encoded)
        belongs = sum(
            F.softplus(moved + table(code)) for code, table in zip(codes.unbind(-1), self.tables, strict=True)
        )
        return self.head(belongs.masked_fill(~key_mask[..., None], 0).sum(1).log1p())
