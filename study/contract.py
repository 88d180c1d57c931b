"""What every attention mechanism must keep (docs/mechanism.md), tried on a class of one's own within seconds."""

import argparse
import copy
import math
import sys
import time
import timeit
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lib.attention import Events, Mask
from lib.attention.mechanism import AttentionOutput
from lib.training.classifier import ModelConfig, attention_class, build_attention
from study.mechanisms import OWN

SMALL = ModelConfig(model_dim=16, heads=2, features=8, basis=8, samples=16, segment=16)
LENGTH = 40
SCALING_LENGTHS = (1024, 4096)


class BrokenPromise(Exception):
    """What a mechanism does that it must not, in a few words."""


def build(config: ModelConfig, causal: bool = False, seed: int = 0) -> nn.Module:
    """A layer of the mechanism, in evaluation mode, whose weights follow from the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_attention(config, torch.Generator().manual_seed(seed), causal).eval()


def random_events(config: ModelConfig, length: int = LENGTH) -> Events:
    """Standard normal events, always the same."""
    return torch.randn(3, length, config.model_dim, generator=torch.Generator().manual_seed(1))


def prefix_mask(*lengths: int) -> Mask:
    """Of histories with so many real events."""
    return torch.arange(LENGTH) < torch.tensor(lengths)[:, None]


def must_equal(found: Tensor, expected: Tensor, what: str, tolerance: float = 1e-3) -> None:
    """Refuse values that differ by more than a share of the largest one, or that are not numbers."""
    difference, largest = (each.detach().abs().max().item() for each in (found - expected, expected))
    if not difference <= tolerance * max(1.0, largest):
        raise BrokenPromise(f"{what} (by {difference:.2g})")


def shapes(config: ModelConfig) -> None:
    """One output per event, and a regulariser of one number"""
    for length in (1, 7, LENGTH):
        events = random_events(config, length=length)
        found = build(config)(events)
        if not isinstance(found, AttentionOutput) or found.regulariser.shape != ():
            raise BrokenPromise("forward must return an AttentionOutput with a regulariser of one number")
        if found.output.shape != events.shape or found.output.dtype != events.dtype:
            raise BrokenPromise(f"{tuple(events.shape)} events give an output of shape {tuple(found.output.shape)}")


def neighbours(config: ModelConfig) -> None:
    """Padding and the other histories of a batch change nothing"""
    layer, lengths = build(config), (LENGTH, 25, 3)
    mask, events = prefix_mask(*lengths), random_events(config)
    output = layer(events, mask).output
    other = layer(events.masked_fill(~mask[..., None], 7.0), mask).output
    must_equal(other[mask], output[mask], "what stands at padded places changes the output of real events")
    for row, length in enumerate(lengths):
        alone = layer(events[row : row + 1, :length]).output[0]
        must_equal(alone, output[row, :length], "a history alone has another output than in a padded batch")


def repetition(config: ModelConfig) -> None:
    """A call leaves nothing behind that changes the next"""
    layer, events = build(config), random_events(config)
    first = layer(events).output
    layer(3 * events)
    must_equal(layer(events).output, first, "the same events give another output the second time", 0.0)


def future(config: ModelConfig) -> None:
    """The causal form does not look at later events"""
    if not attention_class(config.attention).has_causal_form:
        return
    layer, events = build(config, causal=True), random_events(config)
    seen = events.clone().requires_grad_()
    early = layer(seen).output[:, :20]
    (gradient,) = torch.autograd.grad(early.square().sum(), seen, materialize_grads=True)
    must_equal(gradient[:, 20:], torch.zeros(()), "the output of an event has a gradient to later ones", 1e-6)
    changed = torch.cat([events[:, :20], 5 + events[:, 20:]], 1)
    must_equal(layer(changed).output[:, :20], early.detach(), "later events change the output of earlier ones")


def hard_inputs(config: ModelConfig) -> None:
    """Outputs and gradients are finite for zeros, large and tiny events, one event and none"""
    events = random_events(config)
    cases: dict[str, tuple[Tensor, Tensor | None]] = {
        "zeros": (torch.zeros_like(events), None),
        "events of norm 10,000": (1e4 * events, None),
        "events of norm 1e-8": (1e-8 * events, None),
        "a history of one event": (events, prefix_mask(LENGTH, 1, 1)),
        "a history without events": (events, prefix_mask(LENGTH, 0, 0)),
        "a batch without places": (events[:, :0], None),
    }
    for name, (given, mask) in cases.items():
        layer, given = build(config), given.clone().requires_grad_()
        nn.init.zeros_(layer.in_projection.bias)  # so that queries, keys and values are zero where events are
        output, regulariser = layer(given, mask)
        inputs = [given, *layer.parameters()]
        gradients = torch.autograd.grad(output.sum() + regulariser, inputs, materialize_grads=True)
        for what, tensors in {"the output": (output, regulariser), "a gradient": gradients}.items():
            if not all(tensor.isfinite().all() for tensor in tensors):
                raise BrokenPromise(f"{what} is not finite for {name}")


def gradients(config: ModelConfig) -> None:
    """Every parameter and the events have a gradient"""
    layer, events = build(config).train(), random_events(config).requires_grad_()
    output, regulariser = layer(events)
    (output.square().sum() + regulariser).backward()
    named = {"events": events, **dict(layer.named_parameters())}
    silent = [name for name, tensor in named.items() if tensor.grad is None or not tensor.grad.any()]
    if silent:
        raise BrokenPromise(f"no gradient reaches {', '.join(silent)}")


def copies(config: ModelConfig) -> None:
    """state_dict and deepcopy hold all that decides the output"""
    layer, other, events = build(config), build(config, seed=2), random_events(config)
    expected = layer(events).output
    other.load_state_dict(layer.state_dict())
    must_equal(other(events).output, expected, "a layer with the same state_dict has another output", 0.0)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    must_equal(twin(events).output, expected, "a deep copy has another output, or shares weights", 0.0)


def checkpointing(config: ModelConfig) -> None:
    """torch.utils.checkpoint changes no gradient"""
    layer, found = build(config), []
    for call in (layer, lambda events: checkpoint(layer, events, use_reentrant=False)):
        events = random_events(config).requires_grad_()
        output, regulariser = call(events)
        (output.square().sum() + regulariser).backward()
        found.append(events.grad)
    must_equal(found[1], found[0], "the gradient under torch.utils.checkpoint is another one")


def autocast(config: ModelConfig) -> None:
    """Under autocast to bfloat16 the output is that of single precision, as far as half precision goes"""
    layer, events = build(config), random_events(config)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(events).output
    must_equal(output.float(), layer(events).output, "the output under autocast is another one", 0.1)


def stream(config: ModelConfig) -> None:
    """A stream gives what the causal form gives for the whole history"""
    kind = attention_class(config.attention)
    if not (hasattr(kind, "step") and kind.has_causal_form):
        return
    layer, events, state, found = build(config, causal=True), random_events(config), None, []
    for piece in events.split(config.segment, 1):
        (output, _), state = layer.step(piece, None, state)
        found.append(output)
    must_equal(torch.cat(found, 1), layer(events).output, "pieces of a history have another output than the whole")


RESTS_ON = (shapes, repetition, neighbours, future, hard_inputs, gradients)  # what the study's results rest on
PROMISES = (*RESTS_ON, copies, checkpointing, autocast, stream)


def broken(check: Callable[[ModelConfig], None], config: ModelConfig) -> str | None:
    """How the mechanism breaks a promise, in one line; None if it does not."""
    try:
        check(config)
    except Exception as error:
        kind = "" if isinstance(error, BrokenPromise) else f"{type(error).__name__}: "
        return " ".join(f"{kind}{error}".split())
    return None


def growth(config: ModelConfig) -> float:
    """The power of the length with which a layer's time of a core grows, forward and backward."""
    layer, (short, long) = build(config), SCALING_LENGTHS
    inputs = [random_events(config, length).requires_grad_() for length in (short, long)]
    calls = [lambda events=events: layer(events).output.sum().backward() for events in inputs]
    times = [min(timeit.repeat(call, timer=time.process_time, number=1, repeat=5)) for call in calls]
    return math.log(times[1] / times[0]) / math.log(long / short)


def report(name: str) -> bool:
    """Print a line for every promise and one on how the time grows; whether all are kept."""
    found = {check.__doc__: broken(check, replace(SMALL, attention=name)) for check in PROMISES}
    for promise, why in found.items():
        print(f"BROKEN  {promise}: {why}" if why else f"kept    {promise}")
    power, (short, long) = growth(replace(SMALL, attention=name)), SCALING_LENGTHS
    linear = "linear, or nearly" if power < 1.5 else "not linear"
    print(f"time    grows as the length to the power {power:.1f} from {short:,} to {long:,} events: {linear}")
    return not any(found.values())


def refusal(name: str) -> str | None:
    """Why a mechanism cannot be studied, in one line; None if it can."""
    try:
        attention_class(name)
    except ValueError as error:
        return str(error)
    config = replace(SMALL, attention=name)
    found = ((check.__doc__, broken(check, config)) for check in RESTS_ON)
    return next((f"{name} breaks the contract “{kept}”: {why}" for kept, why in found if why), None)


def main() -> int:
    """Report on the mechanisms named; with none named, refuse those of the study that break what results rest on."""
    parser = argparse.ArgumentParser(prog="./run_tests.sh --mechanism", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="folder/file.py:Class or package.module:Class")
    parser.add_argument("--caller", default=".", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.names:
        return 0 if all([report(str(Path(options.caller, name))) for name in options.names]) else 1
    for why in filter(None, map(refusal, OWN.values())):
        print(f"error: {why}; see docs/mechanism.md", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
