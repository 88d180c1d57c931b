"""Operations that a call needs, counted by the framework, and how close to the machine's speed it carries them out."""

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from lib.workload import Configuration, prepare


def product_added(added, left, right, *settings, **outcome) -> int:
    """Operations of a batch of products that is added in place; arguments are shapes."""
    batch, rows, inner = left
    return 2 * batch * rows * inner * right[-1]


def fused_forward(queries, keys, values, *settings, **outcome) -> int:
    """Operations of the processor's fused softmax; arguments are shapes."""
    return sdpa_flop_count(queries, keys, values)


def fused_backward(upstream, queries, keys, values, *settings, **outcome) -> int:
    """Operations of its backward pass, the recomputed scores included."""
    return sdpa_backward_flop_count(upstream, queries, keys, values)


# What the framework's own table lacks.
FORMULAS = {
    torch.ops.aten.baddbmm_: product_added,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: fused_forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: fused_backward,
}


def counted(configuration: Configuration) -> int:
    """Multiplications and additions of all matrix products in one call, which is carried out for it.

    Exponentials and other element-wise work are not counted.
    """
    run = prepare(configuration)
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        run()
    return counter.get_total_flops()


def machine_gflops(product: pd.DataFrame) -> float:
    """Billion operations a second in a large square matrix product: the median over rounds of the scope product."""
    times = product[product["metric"] == "time_ms"]
    return float((2e-6 * times["length"] ** 3 / times["value"]).median())


def achieved(rows: pd.DataFrame, machine: float, experiment: str) -> pd.DataFrame:
    """Speed in billion operations a second, and its share of `machine`, in the study's one table shape.

    `rows` are measured times with a column `operations`. The spread is that of the rounds' quartiles.
    """
    # The lowest time is the highest speed.
    ends = {"time_ms": ("", "median"), "time_ms_high": ("_low", "max"), "time_ms_low": ("_high", "min")}
    keys = ["mechanism", "direction", "length"]
    parts = []
    for metric, (end, pick) in ends.items():
        times = rows[rows["metric"] == metric].groupby([*keys, "operations"])["value"].agg(pick).reset_index()
        speed = 1e-6 * times["operations"] / times["value"]
        parts += [times.assign(metric=f"gflops{end}", value=speed)]
        parts += [times.assign(metric=f"machine_share{end}", value=speed / machine)]
    counts = parts[0].assign(metric="operations", value=parts[0]["operations"].astype(float))
    names = {"mechanism": "model", "direction": "split", "length": "x"}
    found = pd.concat([*parts, counts]).rename(columns=names).drop(columns="operations")
    return found.assign(experiment=experiment, task="attention", seed="-", axis="operations_length")
