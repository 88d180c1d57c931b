"""The contract of an attention mechanism: one base class, and how a class of the user's own is found by its name."""

import importlib
import inspect
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from lib.attention import Events, Heads, Mask, constant, wide

SLOWEST_TURN = 1000  # events per radian; with 10,000 (Su et al. 2021) few pairs of a narrow head turn among near events


class AttentionOutput(NamedTuple):
    """What an attention layer returns: its output, and the regulariser (nats, zero if none) that the loss adds."""

    output: Events
    regulariser: Float[Tensor, ""]


@constant
def turns(length: int, pairs: int, device: torch.device, dtype: torch.dtype) -> Complex[Tensor, "length pairs"]:
    """The complex numbers of length one by which the places 0, 1, … turn each pair of coordinates."""
    rates = SLOWEST_TURN ** -(torch.arange(pairs, dtype=torch.float64, device="cpu") / pairs)
    angles = torch.arange(length, dtype=torch.float64, device="cpu")[:, None] * rates
    return torch.polar(torch.ones_like(angles), angles).to(device, dtype.to_complex())


def rotated(heads: Heads) -> Heads:
    """Queries or keys, each pair of coordinates turned by the event's place (Su et al. 2021); none may be left over."""
    length, head_dim = heads.shape[2:]
    if head_dim % 2:
        raise ValueError(f"rotary places turn pairs of coordinates, got an odd head_dim of {head_dim}")
    precise = heads.to(wide(heads.dtype))
    pairs = torch.view_as_complex(precise.unflatten(-1, (head_dim // 2, 2)))
    known = turns(1 << max(length - 1, 1).bit_length(), head_dim // 2, heads.device, precise.dtype)  # few to be kept
    return torch.view_as_real(pairs * known[:length]).flatten(-2).to(heads.dtype)


class MultiHeadAttention(nn.Module, ABC):
    """Projections in and out of every mechanism; a subclass overrides `attend`, and what else it needs.

    A subclass is built as `(model_dim, heads)`, with `generator` where its constructor takes one, for random draws.
    Raises ValueError if `heads` does not divide `model_dim`, and for a causal form of a class that has none.
    """

    rotary = False  # whether queries and keys are turned by their events' places
    has_causal_form = False  # whether it looks at no later event where `causal` is true
    label: ClassVar[str | None] = None  # what tables and figures call it; None for the words of the class's name
    colour: ClassVar[str | None] = None  # in figures, as "#rrggbb"; None for one of the study's

    def __init__(self, model_dim: int, heads: int, causal: bool = False):
        super().__init__()
        if heads < 1 or model_dim < 1 or model_dim % heads:
            raise ValueError(f"heads must divide model_dim, got {heads} heads for model_dim {model_dim}")
        if causal and not self.has_causal_form:
            raise ValueError(f"{type(self).__name__} has no causal form")
        self.heads = heads
        self.head_dim = model_dim // heads
        self.causal = causal
        self.in_projection = nn.Linear(model_dim, 3 * model_dim)
        self.out_projection = nn.Linear(model_dim, model_dim)

    @abstractmethod
    def attend(self, queries: Heads, keys: Heads, values: Heads, key_mask: Mask | None) -> Heads:
        """What each query reads from the values of real events; zeros, or anything finite, where there is none."""

    def forward(self, events: Events, key_mask: Mask | None = None) -> AttentionOutput:
        """Attention over real events; at padded ones it is finite and means nothing. Overridden for a regulariser."""
        output = self.merge(self.attend(*self.project(events), key_mask))
        return AttentionOutput(output, output.new_zeros(()))

    def redraw(self, generator: torch.Generator) -> None:
        """Draw again what is random; a mechanism without random draws has nothing to do."""

    def project(self, events: Events) -> tuple[Heads, Heads, Heads]:
        """Queries, keys and values of every head."""
        packed = self.in_projection(events).chunk(3, dim=-1)
        queries, keys, values = (part.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2) for part in packed)
        return *self.placed(queries, keys), values

    def placed(self, queries: Heads, keys: Heads) -> tuple[Heads, Heads]:
        """Queries and keys, turned by their places if this attention is to see those."""
        return (rotated(queries), rotated(keys)) if self.rotary else (queries, keys)

    def merge(self, attended: Heads) -> Events:
        """The heads side by side, through the output projection."""
        return self.out_projection(attended.transpose(1, 2).flatten(2))


def takes(kind: type[nn.Module], setting: str) -> bool:
    """Whether the constructor has a parameter of this name."""
    return setting in inspect.signature(kind).parameters


def load_mechanism(name: str) -> type[MultiHeadAttention]:
    """The class that `package.module:Class` or `folder/file.py:Class` names; `folder/package.module:Class` does both.

    The folder, or else the current one, joins Python's path. Raises ValueError, in one line, where there is none.
    """
    place, _, called = name.rpartition(":")
    folder, module = Path(place).parent.resolve(), Path(place).name.removesuffix(".py")
    if not (module and called.isidentifier()):
        raise ValueError(f"{name}: give package.module:Class or folder/file.py:Class")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise ValueError(f"{name}: cannot be imported ({type(error).__name__}: {error})".replace("\n", " ")) from error
    if place.endswith(".py") and Path(found.__file__ or "").resolve() != folder / Path(place).name:
        raise ValueError(f"{name}: Python already has another module {module} ({found.__file__}); rename the file")
    kind = getattr(found, called, None)
    if not (isinstance(kind, type) and issubclass(kind, MultiHeadAttention)) or inspect.isabstract(kind):
        needed = f"a subclass {called} of lib.attention.mechanism.MultiHeadAttention that defines attend"
        raise ValueError(f"{name}: {module} must have {needed}")
    return kind
