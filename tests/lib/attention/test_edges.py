"""At the edges every module still is its equation, or refuses: types, norms, empty inputs, streams, transforms."""

import copy
import os
import pathlib
import re
import subprocess
import sys

import pytest
import torch
import written_out
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint
from written_out import SINGLE, relative_error, seeded

from lib.attention import wide
from lib.attention.baselines import BinnedMemoryAttention, LocalAttention, NoAttention, Recurrence
from lib.attention.continuous_memory import gaussian_basis, gaussian_read
from lib.attention.infinite_former import InfiniteFormerAttention, MemorySettings
from lib.attention.performer import PerformerAttention
from lib.attention.softmax import ExplicitSoftmaxAttention, SoftmaxAttention
from lib.storage import ROOT


def former(sampling, causal=False, **settings):
    return InfiniteFormerAttention(16, 2, MemorySettings(8, 16, sampling, samples=32, **settings), causal)


MAKERS = {
    "softmax": lambda causal=False: SoftmaxAttention(16, 2, causal),
    "explicit": lambda causal=False: ExplicitSoftmaxAttention(16, 2, causal),
    "performer": lambda causal=False: PerformerAttention(16, 2, seeded(), 32, causal=causal),
    "sticky": lambda causal=False: former("sticky", causal),
    "uniform": lambda causal=False: former("uniform", causal),
    "even": lambda causal=False: former("even", causal),
    "widths": lambda causal=False: former("uniform", causal, widths=(0.6, 3.0)),
    "bins": lambda causal=False: BinnedMemoryAttention(16, 2, 8, 16, causal),
}
MEMORIES = ("sticky", "uniform", "even", "widths", "bins")
CONTROLS = {"local": lambda: LocalAttention(16, 2, 16), "gru": lambda: Recurrence(16), "none": NoAttention}
EVERY = {**MAKERS, **CONTROLS, "random": lambda: former("sticky_random")}


def built(kind, *arguments):
    torch.manual_seed(0)
    return EVERY[kind](*arguments)


def events(rows=2, length=40, seed=1, **options):
    return torch.randn(rows, length, 16, generator=seeded(seed), **options)


def prefix(counts, length):
    return torch.arange(length) < torch.tensor(counts)[:, None]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scale", [1, 1e10, 1e19, 1e30])
@pytest.mark.parametrize("kind", MAKERS)
def test_modules_are_their_equation_at_any_norm(kind, causal, scale):
    """Sticky times move by the rounding of sums of 32 error functions over the density there."""
    module, inputs, real = built(kind, causal), (events() * scale).requires_grad_(), prefix([40, 37], 40)
    attended = module(inputs, real)
    whole, shorter = (written_out.attention(module, row[:n]) for row, n in zip(inputs.detach(), (40, 37), strict=True))
    assert relative_error(attended.output[0], whole) < 2000 * SINGLE
    assert relative_error(attended.output[1, :37], shorter) < 2000 * SINGLE
    assert attended.regulariser.isfinite()
    (attended.output[real] / scale).sum().backward()
    assert inputs.grad.isfinite().all()
    if kind in MEMORIES:
        memory, outputs = None, []
        for part in inputs[:1].split(16, 1):
            stepped, memory = module.step(part, None, memory)
            outputs.append(stepped.output[0])
        assert relative_error(torch.cat(outputs), whole) < 2000 * SINGLE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("way", ["cast", "default"])
@pytest.mark.parametrize("kind", MAKERS)
def test_modules_of_any_type_round_no_more_than_their_weights_and_results(kind, way, dtype):
    """Cast to the type or made while it is the default: the weights alone have it, the projection none but its own."""
    torch.set_default_dtype(dtype if way == "default" else torch.float32)
    try:
        module = built(kind).to(dtype)
    finally:
        torch.set_default_dtype(torch.float32)
    inputs = events().to(dtype)
    found = module(inputs)
    exact = torch.stack([written_out.attention(module, row) for row in inputs])
    assert found.output.dtype == module.in_projection.weight.dtype == dtype
    # Queries, keys, values, what is read, the sum and both projections are rounded once each.
    assert relative_error(found.output, exact) < max(8 * torch.finfo(dtype).eps, 2000 * SINGLE)
    if kind == "performer":
        assert torch.equal(module.projection, built(kind).projection)
    if kind in MEMORIES:
        assert module.step(inputs[:, :16])[1].coefficients.dtype == wide(dtype)


@pytest.mark.parametrize("kind", EVERY)
def test_the_state_dict_is_all_that_a_module_rests_on(kind):
    module, inputs = built(kind), events()
    assert not any(part._non_persistent_buffers_set for part in module.modules())
    with torch.device("meta"):
        other = EVERY[kind]()
    other = other.to_empty(device="cpu")
    for tensor in (*other.parameters(), *other.buffers()):
        tensor.data.fill_(torch.nan)
    other.load_state_dict(module.state_dict())
    for one in (other, copy.deepcopy(module)):
        torch.manual_seed(5)
        found = one(inputs).output
        torch.manual_seed(5)
        assert torch.equal(found, module(inputs).output)


@pytest.mark.parametrize("kind", sorted(EVERY.keys() - {"none"}))
def test_recomputed_activations_are_the_same(kind):
    module, inputs = built(kind), events().requires_grad_()
    form, found = (lambda x: module(x).output), []
    for call in (form, lambda x: checkpoint(form, x, use_reentrant=False)):
        torch.manual_seed(5)
        output = call(inputs)
        leaves = (inputs, *module.parameters())
        gradients = torch.autograd.grad(output.square().sum(), leaves, allow_unused=True, materialize_grads=True)
        found.append((output, *gradients))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_random_sampling_draws_anew_every_time():
    module, inputs = built("random"), events()
    first, second = module(inputs).output, module(inputs).output
    assert torch.equal(first[:, :32], second[:, :32])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shape", [(0, 40), (2, 0), (0, 0)])
@pytest.mark.parametrize("kind", EVERY)
def test_nothing_comes_of_nothing(kind, shape):
    module, inputs = built(kind), events(*shape).requires_grad_()
    for mask in (None, torch.ones(shape, dtype=torch.bool)):
        attended = module(inputs, mask)
        assert attended.output.shape == (*shape, 16)
        assert attended.regulariser == 0
        if attended.output.requires_grad:
            (attended.output.sum() + attended.regulariser).backward()
    if kind in MEMORIES:
        start = module.empty_memory(shape[0])
        attended, memory = module.step(inputs[:, :16], None, start)
        assert attended.output.shape == inputs[:, :16].shape
        assert all(torch.equal(one, other) for one, other in zip(memory, start, strict=True))


def test_memories_that_do_not_fit_and_transforms_of_steps_are_refused():
    module, part = built("uniform"), events(2, 16)
    _, memory = module.step(part)
    for other in (
        memory._replace(events=memory.events[:1]),
        memory._replace(coefficients=memory.coefficients[:, :-1]),
        memory._replace(coefficients=memory.coefficients.bfloat16()),
    ):
        with pytest.raises(ValueError, match="state does not fit"):
            module.step(part, None, other)
    with pytest.raises(NotImplementedError, match="not steps of a stream"):
        grad(lambda x: module.step(x)[0].output.sum())(part)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftmaxAttention(8, 0), "heads must divide"),
        (lambda: SoftmaxAttention(10, 3), "heads must divide"),
        (lambda: LocalAttention(8, 2, 0), "segment"),
        (lambda: PerformerAttention(8, 2, seeded(), 0), "features"),
        (lambda: PerformerAttention(8, 2, seeded(), kernel="elu"), "known are positive, hyperbolic, trigonometric"),
        (lambda: PerformerAttention(8, 2, seeded(), projection="sobol"), "known are gaussian, orthogonal, fixed_norm"),
        (lambda: BinnedMemoryAttention(8, 2, 0, 4), "basis"),
        (lambda: BinnedMemoryAttention(8, 2, 4, 0), "segment"),
        (lambda: MemorySettings(basis=1), "basis"),
        (lambda: MemorySettings(bins=0), "bins"),
        (lambda: MemorySettings(widths=(0.0,)), "widths"),
        (lambda: MemorySettings(widths=(1.0, 2.0, 3.0)), "widths"),
        (lambda: MemorySettings(ridge=0.0), "ridge"),
        (lambda: MemorySettings(initial_widths=(0.4, 0.0)), "initial_widths"),
        (lambda: MemorySettings(contraction=1.0), "contraction"),
        (lambda: InfiniteFormerAttention(16, 2, MemorySettings(samples=63)), "explode"),
        (lambda: MemorySettings(sampling="other"), "sticky, sticky_random, uniform, even"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_second_derivatives_of_a_continuous_read():
    basis = gaussian_basis(6, (0.75, 4.0))
    mean, spread, values = (torch.randn(1, 2, n, 3, generator=seeded(n)).double() for n in (1, 2, 6))
    inputs = (mean[:, :, 0].sigmoid(), spread[:, :, 0].square() * 0.1 + 0.05, values)
    inputs = [each.detach().requires_grad_() for each in inputs]
    assert torch.autograd.gradgradcheck(lambda m, v, x: gaussian_read(m, v, basis, x), inputs)


@pytest.mark.parametrize("kind", MAKERS)
def test_gradients_of_every_history_at_once(kind):
    module, inputs = built(kind).double(), events(3, dtype=torch.float64)
    weights = {name: weight.detach() for name, weight in module.named_parameters()}

    def loss(weights, history):
        attended = functional_call(module, weights, (history[None],))
        return attended.output.square().sum() + attended.regulariser

    found = vmap(grad(loss), (None, 0))(weights, inputs)
    for row in range(3):
        module.zero_grad()
        loss(dict(module.named_parameters()), inputs[row]).backward()
        for name, weight in module.named_parameters():
            torch.testing.assert_close(found[name][row], weight.grad, rtol=1e-8, atol=1e-8)


def exported_and_compiled():
    """Run in a process without the checks of shapes at run time, which no compiler can follow."""
    for kind in ("performer", "sticky"):
        module, inputs, mask = built(kind), events(), prefix([40, 37], 40)
        with torch.no_grad():
            expected = module(inputs, mask).output[mask]
            exported = torch.export.export(module, (inputs, mask)).module()(inputs, mask).output[mask]
            assert relative_error(exported, expected.double()) < 2000 * SINGLE, kind
        torch._dynamo.reset()
        compiled, gradients = torch.compile(module, backend="aot_eager"), []
        for form in (module, compiled):
            module.zero_grad()
            attended = form(inputs, mask)
            (attended.output[mask].square().sum() + attended.regulariser).backward()
            gradients.append([attended.output[mask], *(p.grad.clone() for p in module.parameters())])
        for one, other in zip(*gradients, strict=True):
            assert relative_error(other.detach(), one.detach().double()) < 100 * SINGLE, kind


def test_export_and_compilation_are_exact():
    folder = pathlib.Path(__file__).parent
    command = [sys.executable, "-c", "import test_edges; test_edges.exported_and_compiled()"]
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
