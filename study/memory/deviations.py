"""What each difference from the published ∞-former buys: its own switches, turned one at a time."""

from dataclasses import replace

import pandas as pd
import torch

from lib.attention.infinite_former import InfiniteFormerAttention, MemorySettings

SWITCHES = {
    "events at the middles of cells": {"right_ends": False},
    "no zeros outside": {"zeros_outside": False},
    "scaled scores": {"scaled_scores": True},
    "scaled scores, one map a head": {"scaled_scores": True, "initial_widths": (0.4, 0.05)},
    "lower least variance": {"least_variance": 1e-6},
    "wider prior": {"prior_width": 0.1},
    "gradients through memory": {"through_memory": True},
    "sticky, drawn at random": {"sampling": "sticky_random"},
    "sticky": {"sampling": "sticky"},
    "even": {"sampling": "even"},
}
"""What is changed of the published memory, by the words for it."""
GEOMETRIC = ("events at the middles of cells", "no zeros outside", "sticky, drawn at random", "sticky", "even")
"""Of these, the ones that change what is kept, not only how it is read and trained."""


def memories_by_switch(**sizes: int) -> dict[str, MemorySettings]:
    """The published memory, each change of it alone, and all together."""
    published = MemorySettings.published(**sizes)
    changed = {words: replace(published, **change) for words, change in SWITCHES.items()}
    return {"published": published, **changed, "all together": MemorySettings(sampling="even", **sizes)}


@torch.no_grad()
def start_rows(settings: MemorySettings, segments: int, seeds: int) -> pd.DataFrame:
    """Of untrained memories of independent events: size of the coefficients, quartiles of the reads' μ and σ.

    By what scores are multiplied with: nothing, as published, the number of functions, or the module's own scale.
    """
    rows = []
    for seed in range(seeds):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = InfiniteFormerAttention(64, 4, settings)
            events = torch.randn(8, (segments + 1) * settings.segment, 64)
        *past, last = torch.nn.functional.layer_norm(events, (64,)).split(settings.segment, dim=1)
        memory = None
        for part in past:
            _, memory = module.step(part, None, memory)
        rows.append(("all", seed, "coefficients", memory.coefficients.square().mean().sqrt().item()))
        for name, scale in {"as published": 1.0, "times N": settings.basis, "scaled": module.score_scale}.items():
            module.score_scale = scale
            density = module.density(module.project(last)[0], memory.coefficients)
            for metric, values in {"mean": density.mean, "deviation": density.variance.sqrt()}.items():
                for end, share in {"low": 0.25, "median": 0.5, "high": 0.75}.items():
                    rows.append((name, seed, f"{metric}_{end}", values.flatten().quantile(share).item()))
    return pd.DataFrame(rows, columns=["split", "seed", "metric", "value"]).assign(axis="basis", x=settings.basis)
