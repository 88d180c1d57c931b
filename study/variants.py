"""Every network of the study by name: the three mechanisms, and what they are compared with."""

from dataclasses import dataclass, replace

from lib.training.classifier import ModelConfig
from lib.training.loop import TrainConfig

PRETRAINING_EPOCHS = 10


@dataclass(frozen=True)
class Variant:
    """A network, how it differs from the recipe, and what a table calls it."""

    label: str
    model: ModelConfig
    pretraining_epochs: int = 0

    def configs(self, epochs: int) -> tuple[ModelConfig, TrainConfig]:
        """What `lib.training.runs` needs to train it for so many epochs."""
        return self.model, TrainConfig(epochs=epochs, pretraining_epochs=self.pretraining_epochs)


SOFTMAX = ModelConfig(attention="softmax")
PERFORMER = ModelConfig(attention="performer")
INFINITE_FORMER = ModelConfig(attention="infinite_former")
LOCAL = ModelConfig(attention="local_softmax")
BINNED = ModelConfig(attention="binned_memory")

VARIANTS = {
    "softmax": Variant("softmax", SOFTMAX),
    "performer": Variant("Performer", PERFORMER),
    "infinite_former": Variant("∞-former", INFINITE_FORMER),
    "mean_pooling": Variant("attention removed: pooling only", ModelConfig(attention="none")),
    "gru": Variant("GRU in the place of attention", ModelConfig(attention="gru")),
    "softmax_pretrained": Variant("softmax, pre-trained", SOFTMAX, PRETRAINING_EPOCHS),
    "performer_pretrained": Variant("Performer, pre-trained", PERFORMER, PRETRAINING_EPOCHS),
    "infinite_former_pretrained": Variant("∞-former, pre-trained", INFINITE_FORMER, PRETRAINING_EPOCHS),
    "performer_16": Variant("Performer, 16 features", replace(PERFORMER, features=16)),
    "performer_256": Variant("Performer, 256 features", replace(PERFORMER, features=256)),
    "infinite_former_uniform": Variant("∞-former, uniform sampling", replace(INFINITE_FORMER, sampling="uniform")),
    "infinite_former_even": Variant("∞-former, even resolution", replace(INFINITE_FORMER, sampling="even")),
    "infinite_former_forgetful": Variant("∞-former without its memory: segments alone", LOCAL),
    "binned_memory": Variant("bin means attended to with softmax", BINNED),
}
