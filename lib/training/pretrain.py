"""Self-supervised pre-training: hide some events and predict them from the others; labels are never looked at."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor, nn

from lib.data.batches import Batch
from lib.training.classifier import Classifier
from lib.training.loop import Outcome

HIDDEN_SHARE = 0.15


class MaskedEvents(nn.Module):
    """A classifier's encoder with a linear head for every code and one for the numbers of hidden events.

    A hidden event keeps its time and loses its codes (0, the unknown code) and numbers (0). The embeddings and the
    encoder are those of the classifier, which is thereby trained (masked prediction as in Devlin et al. 2019).
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        tables, width = classifier.embedding.tables[: classifier.code_kinds], classifier.norm.normalized_shape[0]
        self.codes = nn.ModuleList(nn.Linear(width, table.num_embeddings) for table in tables)
        self.numbers = nn.Linear(width, classifier.embedding.numbers[0].in_features)

    def forward(self, batch: Batch, hidden: Bool[Tensor, "batch length"]) -> Outcome:
        """Loss over hidden events (cross-entropy of codes, squared error of numbers), regulariser, hits on codes."""
        kept = ~hidden[..., None]
        categories = batch.categories.clone()
        categories[..., : len(self.codes)] *= kept
        encoded, regulariser = self.classifier.encode(categories, batch.numbers * kept, batch.days, batch.key_mask)
        seen, truth = encoded[hidden], batch.categories[hidden]
        loss = F.mse_loss(self.numbers(seen), batch.numbers[hidden])
        hits = []
        for kind, head in enumerate(self.codes):
            scores = head(seen)
            loss = loss + F.cross_entropy(scores, truth[:, kind])
            hits.append((scores.argmax(1) == truth[:, kind]).float().mean())
        regularised = self.classifier.regularised_events(batch.key_mask)
        return Outcome(loss, regulariser, torch.stack(hits).mean(), len(seen), regularised)

    def redraw(self, generator: torch.Generator) -> None:
        """Fresh random features for the encoder's attentions."""
        self.classifier.redraw(generator)


def hide(key_mask: Bool[Tensor, "batch length"]) -> Bool[Tensor, "batch length"]:
    """Real events chosen at random from the global generator, at least one of the whole batch."""
    hidden = key_mask & (torch.rand(key_mask.shape, device=key_mask.device) < HIDDEN_SHARE)
    if not hidden.any():
        hidden[0, 0] = True
    return hidden


def masked_prediction(model: MaskedEvents, batch: Batch) -> Outcome:
    """The objective of pre-training: loss, regulariser and share of hidden codes that are named rightly."""
    return model(batch, hide(batch.key_mask))
