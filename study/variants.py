"""Every network of the study by name: the three mechanisms, and what they are compared with."""

from dataclasses import dataclass, replace

import numpy as np

from lib.attention.mechanism import load_mechanism
from lib.data.histories import Histories
from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig
from study.mechanisms import MECHANISMS, OWN, label

PLAIN_RECIPE = {"learning_rate": 4e-3, "table_rate": 1.0}
SEES_ORDER = {"places": "rotary", "convolution": 5}  # what plain encoders have for order: for attention, for neighbours


def permuted(histories: Histories) -> Histories:
    """The histories with each customer's events in random order: what was bought moves, ages and gaps stay in place."""
    order = np.lexsort((np.random.default_rng(0).random(len(histories.days)), histories.owners))
    numbers, gap = histories.numbers[order], histories.quantities.index("gap")
    numbers[:, gap] = histories.numbers[:, gap]
    checksum = f"{histories.checksum} permuted"
    return replace(histories, categories=histories.categories[order], numbers=numbers, checksum=checksum)


@dataclass(frozen=True)
class Variant:
    """A network, what a table calls it, the network of which it is a change, and whether it sees permuted histories."""

    label: str
    model: ModelConfig
    changes: str = "mean_pooling"
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


COMPARED = [*MECHANISMS, "mean_pooling"]  # the main comparison's networks; each has a plain one beside it
COUNTING = {
    "softmax": Variant("softmax", ModelConfig("softmax")),
    "performer": Variant("Performer", ModelConfig("performer")),
    "infinite_former": Variant("∞-former", ModelConfig("infinite_former")),
    "mean_pooling": Variant("attention removed", ModelConfig("none"), "softmax"),
    "gru": Variant("GRU in the place of attention", ModelConfig("gru"), "softmax"),
    "performer_16": Variant("Performer with 16 features", ModelConfig("performer", features=16), "performer"),
    "performer_256": Variant("Performer with 256 features", ModelConfig("performer", features=256), "performer"),
    "infinite_former_even": Variant(
        "∞-former with even resolution", ModelConfig("infinite_former", sampling="even"), "infinite_former"
    ),
    "infinite_former_forgetful": Variant(
        "∞-former without its memory", ModelConfig("local_softmax"), "infinite_former"
    ),
}
COUNTING |= {model: Variant(label(load_mechanism(name)), ModelConfig(name)) for model, name in OWN.items()}
PLAIN = {f"{name}_plain": variant.plain() for name, variant in COUNTING.items()}
PERMUTED = {
    f"{name}_permuted": replace(each, label=f"{each.label} on permuted events", changes=name, permuted=True)
    for name, each in (COUNTING | PLAIN).items()
}
VARIANTS = COUNTING | PLAIN | PERMUTED
