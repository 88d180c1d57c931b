"""Every network of the study by name: the three mechanisms, and what they are compared with."""

from dataclasses import dataclass, replace

import numpy as np

from lib.attention.mechanism import load_mechanism
from lib.data.histories import Histories
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from study.mechanisms import MECHANISMS, OWN, THREE, label

PLAIN_RECIPE = {"learning_rate": 4e-3, "table_rate": 1.0}
"""How plain networks differ from the recipe: without counts the encoder has to learn all there is."""
SEES_ORDER = {"places": "rotary", "convolution": 5}
"""What plain encoders have for order: rotary places for the attention, a short convolution for neighbouring events."""


def permuted(histories: Histories) -> Histories:
    """The histories with each customer's events in random order: what was bought moves, ages and gaps stay in place."""
    order = np.lexsort((np.random.default_rng(0).random(len(histories.days)), histories.owners))
    gap = histories.quantities.index("gap")
    numbers = histories.numbers[order]
    numbers[:, gap] = histories.numbers[:, gap]
    categories, checksum = histories.categories[order], f"{histories.checksum} permuted"
    return replace(histories, categories=categories, numbers=numbers, checksum=checksum)


@dataclass(frozen=True)
class Variant:
    """A network, what a table calls it, how it differs from the recipe, and the network of which it is a change.

    `permuted` ones learn and predict from histories whose order is gone.
    """

    label: str
    model: ModelConfig
    changes: str = "softmax"
    permuted: bool = False

    def configs(self, epochs: int) -> tuple[ModelConfig, TrainConfig]:
        """What `lib.training.runs` needs to train it for so many epochs."""
        recipe = {} if self.model.counting else PLAIN_RECIPE
        return self.model, TrainConfig(epochs=epochs, **recipe)

    def seen(self, histories: Histories) -> Histories:
        """The histories as this network is shown them."""
        return permuted(histories) if self.permuted else histories

    def plain(self) -> "Variant":
        """The same without the counting path, with an encoder that sees order."""
        model = replace(self.model, counting=False, **SEES_ORDER)
        return replace(self, label=f"plain {self.label}", model=model, changes=f"{self.changes}_plain")


COMPARED = [*MECHANISMS, "mean_pooling"]
"""The main comparison's networks; each has a plain one beside it."""
SOFTMAX, PERFORMER, INFINITE_FORMER = (ModelConfig(attention=name) for name in THREE)
COUNTING = {
    "softmax": Variant("softmax", SOFTMAX, "mean_pooling"),
    "performer": Variant("Performer", PERFORMER, "mean_pooling"),
    "infinite_former": Variant("∞-former", INFINITE_FORMER, "mean_pooling"),
    "mean_pooling": Variant("attention removed", ModelConfig(attention="none")),
    "gru": Variant("GRU in the place of attention", ModelConfig(attention="gru")),
    "performer_16": Variant("Performer with 16 features", replace(PERFORMER, features=16), "performer"),
    "performer_256": Variant("Performer with 256 features", replace(PERFORMER, features=256), "performer"),
    "infinite_former_even": Variant(
        "∞-former with even resolution", replace(INFINITE_FORMER, sampling="even"), "infinite_former"
    ),
    "infinite_former_forgetful": Variant(
        "∞-former without its memory", ModelConfig(attention="local_softmax"), "infinite_former"
    ),
}
COUNTING |= {
    model: Variant(label(load_mechanism(name)), ModelConfig(attention=name), "mean_pooling")
    for model, name in OWN.items()
}
PLAIN = {f"{name}_plain": variant.plain() for name, variant in COUNTING.items()}
WITHOUT = {
    f"{name}_without_{part}": replace(
        PLAIN[name],
        label=f"{PLAIN[name].label} without {words}",
        model=replace(PLAIN[name].model, **off),
        changes=name,
    )
    for part, words, off in (
        ("places", "rotary places", {"places": "none"}),
        ("convolution", "its convolution", {"convolution": 0}),
    )
    for name in (f"{each}_plain" for each in COMPARED)
    if (name, part) != ("mean_pooling_plain", "places")  # it has none
}
PERMUTED = {
    f"{name}_permuted": replace(each, label=f"{each.label} on permuted events", changes=name, permuted=True)
    for name, each in (COUNTING | PLAIN).items()
}
WITH_ORDER = {"softmax_with_order": Variant("softmax that sees order", replace(SOFTMAX, **SEES_ORDER))}
VARIANTS = COUNTING | PLAIN | WITHOUT | WITH_ORDER | PERMUTED
"""With the counting path, plain, with one thing switched off, and trained on permuted histories."""
