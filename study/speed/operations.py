"""Operations that a call needs, counted by the framework, and how close to the machine's speed it carries them out."""

from dataclasses import fields

import pandas as pd
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from study.speed.workload import Configuration, prepare


def product_added(added: Tensor, left: Tensor, right: Tensor, **settings: object) -> int:
    """Operations of a batch of products that is added in place."""
    return 2 * left.numel() * right.shape[-1]


def fused_forward(queries: Tensor, keys: Tensor, values: Tensor, *settings: object, **outcome: object) -> int:
    """Operations of the processor's fused softmax."""
    return sdpa_flop_count(queries.shape, keys.shape, values.shape)


def fused_backward(
    upstream: Tensor, queries: Tensor, keys: Tensor, values: Tensor, *settings: object, **outcome: object
) -> int:
    """Operations of its backward pass, the recomputed scores included."""
    return sdpa_backward_flop_count(upstream.shape, queries.shape, keys.shape, values.shape)


# The framework's formulas, and those that it lacks.
FORMULAS = flop_registry | {
    torch.ops.aten.baddbmm_: product_added,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: fused_forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: fused_backward,
}


class OperationCounter(TorchDispatchMode):
    """Sums the operations of what runs inside; the framework's own counter cannot follow gradients of leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        formula = FORMULAS.get(function.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def counted(configuration: Configuration) -> int:
    """Multiplications and additions of all matrix products in one call, which is carried out for it.

    Exponentials and other element-wise work are not counted.
    """
    run = prepare(configuration)
    with OperationCounter() as counter:
        run()
    return counter.total


def with_operations(rows: pd.DataFrame) -> pd.DataFrame:
    """The measured times with a column `operations`, counted once for each configuration that has a time."""
    times = rows[rows["metric"].isin(["time_ms", "time_ms_low", "time_ms_high"])]
    settings = list(times[[field.name for field in fields(Configuration)]].itertuples(index=False, name=None))
    counts = {each: counted(Configuration(*each)) for each in dict.fromkeys(settings)}
    return times.assign(operations=[counts[each] for each in settings])


def machine_gflops(product: pd.DataFrame) -> float:
    """Billion operations a second in a large square matrix product, the median over rounds; missing without any."""
    times = product[product["metric"] == "time_ms"]
    return float((2e-6 * times["length"] ** 3 / times["value"]).median())


def achieved(rows: pd.DataFrame, machine: float, experiment: str) -> pd.DataFrame:
    """Speed in billion operations a second, and its share of `machine`, in the study's one table shape.

    `rows` are measured times with a column `operations`. The spread is that of the rounds' quartiles; shares of a
    speed that is missing are left out.
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
    found = pd.concat([*parts, counts]).dropna(subset="value").rename(columns=names).drop(columns="operations")
    return found.assign(experiment=experiment, task="attention", seed="-", axis="operations_length")
