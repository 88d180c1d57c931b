"""At the edges every mechanism still is its equation, or refuses: types, norms, empty inputs, streams, transforms."""

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

from lib.attention.baselines import BinnedMemoryAttention, LocalAttention, NoAttention, Recurrence
from lib.attention.continuous_memory import gaussian_basis, gaussian_read
from lib.attention.infinite_former import InfiniteFormerAttention, MemorySettings
from lib.attention.performer import PerformerAttention, favor_attention, favor_stream
from lib.attention.random_features import KERNELS, draw_projection
from lib.attention.softmax import (
    ExplicitSoftmaxAttention,
    SoftmaxAttention,
    attention_weights,
    explicit_softmax_attention,
    softmax_attention,
)
from lib.paths import ROOT

SINGLE = torch.finfo(torch.float32).eps


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


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


def heads_of(scale=1.0, length=23, seed=0, head_dim=4, dtype=torch.float32):
    return [(scale * torch.randn(2, 2, length, head_dim, generator=seeded(seed + n))).to(dtype) for n in range(3)]


def relative_error(found, exact):
    return ((found.double() - exact).abs().max() / exact.abs().max()).item()


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("causal", [False, True])
def test_single_precision_is_the_equation(kind, causal):
    module, inputs = built(kind, causal), events()
    found = module(inputs, prefix([40, 37], 40)).output
    for row, length in enumerate((40, 37)):
        exact = written_out.attention(module, inputs[row, :length])
        # Sticky times move by the rounding of sums of 32 error functions over the density there.
        assert relative_error(found[row, :length], exact) < 2000 * SINGLE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", MAKERS)
def test_whole_modules_of_low_precision_round_no_more_than_their_weights_and_results(kind, dtype):
    original = built(kind)
    module, inputs = copy.deepcopy(original).to(dtype), events().to(dtype)
    found = module(inputs)
    exact = torch.stack([written_out.attention(module, row) for row in inputs])
    assert found.output.dtype == dtype
    # Queries, keys, values, what is read, the sum and both projections are rounded once each.
    assert relative_error(found.output, exact) < 8 * torch.finfo(dtype).eps
    back, fresh = module.float(), built(kind)
    if kind == "performer":
        assert torch.equal(back.projection, original.projection)
    fresh.load_state_dict(back.state_dict())
    assert torch.equal(back(events()).output, fresh(events()).output)


@pytest.mark.parametrize("kind", MEMORIES)
def test_memories_of_low_precision_modules_are_wide(kind):
    module = built(kind).bfloat16()
    memory, inputs = None, events(1, 64).bfloat16()
    for part in inputs.split(16, 1):
        _, memory = module.step(part, None, memory)
    exact = written_out.memory_attention(module, inputs[0])[2]
    assert memory.coefficients.dtype == torch.float32
    # Only what is sticky depends on queries, which are rounded.
    bound = 4 * torch.finfo(torch.bfloat16).eps if kind == "sticky" else 2000 * SINGLE
    assert relative_error(memory.coefficients[0], exact) < bound


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", MAKERS)
def test_another_default_type_at_construction_changes_the_weights_type_alone(kind, default):
    torch.set_default_dtype(default)
    try:
        module = built(kind)
    finally:
        torch.set_default_dtype(torch.float32)
    assert module.in_projection.weight.dtype == default
    inputs = events().to(default)
    exact = torch.stack([written_out.attention(module, row) for row in inputs])
    assert relative_error(module(inputs).output, exact) < 2000 * max(SINGLE, torch.finfo(default).eps / 200)
    if kind == "performer":
        assert torch.equal(module.projection, built(kind).projection)


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


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("kind", sorted(EVERY.keys() - {"none"}))
def test_recomputed_activations_are_the_same(kind, reentrant):
    module, inputs = built(kind), events().requires_grad_()

    def gradients(call):
        torch.manual_seed(5)
        output = call(inputs)
        leaves = (inputs, *module.parameters())
        inputs.grad = None
        module.zero_grad()
        output.square().sum().backward()
        return [output, *(leaf.grad.clone() for leaf in leaves if leaf.grad is not None)]

    plain = gradients(lambda x: module(x).output)
    again = gradients(lambda x: checkpoint(lambda y: module(y).output, x, use_reentrant=reentrant))
    assert len(plain) == len(again)
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))


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
            attended, memory = module.step(inputs[:, :16], None if mask is None else mask[:, :16], start)
            assert attended.output.shape == inputs[:, :16].shape
            assert torch.equal(memory.coefficients, start.coefficients)
            assert torch.equal(memory.events, start.events)


@pytest.mark.parametrize(("queries", "keys"), [(3, 0), (0, 3), (0, 0)])
def test_queries_without_keys_read_zeros(queries, keys):
    q, k, v = torch.randn(2, 2, queries, 4), torch.randn(2, 2, keys, 4), torch.randn(2, 2, keys, 5)
    inputs = [each.requires_grad_() for each in (q, k, v)]
    rows, forms = draw_projection("orthogonal", 8, 4, seeded()), [softmax_attention, explicit_softmax_attention]
    forms += [lambda *x, kernel=kernel: favor_attention(*x, rows, kernel) for kernel in KERNELS]
    for form in forms:
        output = form(*inputs)
        assert output.shape == (2, 2, queries, 5)
        assert not output.any()
        assert not any(each.any() for each in torch.autograd.grad(output.sum(), inputs))
    assert attention_weights(q, k).shape == (2, 2, queries, keys)


@pytest.mark.parametrize("kernel", KERNELS)
def test_empty_parts_of_a_stream_change_nothing(kernel):
    rows, inputs = draw_projection("orthogonal", 8, 4, seeded()), heads_of()
    _, state = favor_stream(*inputs, rows, kernel)
    output, same = favor_stream(*(each[:, :, :0] for each in inputs), rows, kernel, state=state)
    assert output.shape == (2, 2, 0, 4)
    assert all(torch.equal(one, other) for one, other in zip(state, same, strict=True))
    assert favor_stream(*(each[:0] for each in inputs), rows, kernel)[0].shape == (0, 2, 23, 4)


def test_states_that_do_not_fit_are_refused():
    rows, inputs = draw_projection("orthogonal", 8, 4, seeded()), heads_of()
    _, state = favor_stream(*inputs, rows)
    turned = [each.reshape(1, 4, 23, 4) for each in inputs]
    doubles = [each.double() for each in inputs]
    wider = [*inputs[:2], torch.cat([inputs[2]] * 2, -1)]
    for others, projection, kernel in (
        ([each[:1] for each in inputs], rows, "positive"),
        (turned, rows, "positive"),
        (wider, rows, "positive"),
        (inputs, rows[:7], "positive"),
        (inputs, rows, "hyperbolic"),
        (doubles, rows, "positive"),
    ):
        with pytest.raises(ValueError, match="state does not fit"):
            favor_stream(*others, projection, kernel, state=state)
    module, part = built("uniform"), events(2, 16)
    _, memory = module.step(part)
    for other in (
        memory._replace(coefficients=memory.coefficients[:1]),
        memory._replace(events=memory.events[:1]),
        memory._replace(coefficients=memory.coefficients[:, :-1]),
        memory._replace(coefficients=memory.coefficients.bfloat16()),
    ):
        with pytest.raises(ValueError, match="state does not fit"):
            module.step(part, None, other)
    with pytest.raises(ValueError, match="state does not fit"):
        copy.deepcopy(module).double().step(part.double(), None, memory)


@pytest.mark.parametrize("scale", [1e7, 1e10, 1e19, 1e30, 1e37])
@pytest.mark.parametrize("causal", [False, True])
def test_functions_of_vectors_of_any_norm_are_their_limit(causal, scale):
    queries, keys, values = heads_of(scale)
    # Of two keys of one norm the directions decide; a key of ordinary norm beats all others in a positive kernel.
    keys[:, :, 1] = -keys[:, :, 0]
    mask, rows = torch.rand(2, 23, generator=seeded(3)) < 0.7, draw_projection("orthogonal", 8, 4, seeded())
    inputs = [each.requires_grad_() for each in (queries, keys, values)]
    exact = [each.detach().double() for each in inputs]
    seen = mask[:, None, :, None] if causal else torch.ones(2, 1, 23, 1, dtype=torch.bool)
    forms = {"softmax": (softmax_attention, explicit_softmax_attention)}
    for kernel in KERNELS:
        forms[kernel] = (lambda *x, kernel=kernel, **y: favor_attention(*x[:3], rows, kernel, *x[3:][::-1]),)
    for kernel, functions in forms.items():
        # Outputs of the trigonometric kernel exceed values by any factor, and its phases are rounding at such norms.
        phases = kernel == "trigonometric"
        inputs[2] = (values.detach() / scale if phases else values).requires_grad_()
        if kernel == "softmax":
            weights = written_out.softmax_weights(*exact[:2], mask, causal)
        else:
            weights = written_out.favor_weights(*exact[:2], rows.double(), kernel, causal, mask)
        for function in functions:
            found = function(*inputs, mask, causal)
            assert found.isfinite().all()
            assert all(each.isfinite().all() for each in torch.autograd.grad(found.sum() / scale, inputs))
            if not phases:
                assert relative_error(found * seen, weights @ exact[2] * seen) < 20 * SINGLE


def test_an_ordinary_key_among_enormous_ones_is_the_limit():
    queries, keys, values = heads_of()
    keys[:, :, 3:] *= 1e30
    rows = draw_projection("orthogonal", 8, 4, seeded())
    for causal in (False, True):
        exact = written_out.favor_weights(queries.double(), keys.double(), rows.double(), "positive", causal)
        found = favor_attention(queries, keys, values, rows, causal=causal)
        assert relative_error(found, exact @ values.double()) < 100 * SINGLE


@pytest.mark.parametrize("scale", [1e10, 1e19, 1e30])
@pytest.mark.parametrize("kind", MAKERS)
def test_modules_of_events_of_any_norm_are_their_limit(kind, scale):
    module, inputs = built(kind), (events() * scale).requires_grad_()
    attended = module(inputs)
    exact = torch.stack([written_out.attention(module, row) for row in inputs.detach()])
    assert relative_error(attended.output.detach(), exact) < 2000 * SINGLE
    assert attended.regulariser.isfinite()
    (attended.output / scale).sum().backward()
    assert inputs.grad.isfinite().all()
    if kind in MEMORIES:
        memory, outputs = None, []
        for part in inputs.detach().split(16, 1):
            stepped, memory = module.step(part, None, memory)
            outputs.append(stepped.output)
        assert relative_error(torch.cat(outputs, 1).detach(), exact) < 2000 * SINGLE


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftmaxAttention(0, 1), "heads must divide"),
        (lambda: SoftmaxAttention(8, 0), "heads must divide"),
        (lambda: SoftmaxAttention(10, 3), "heads must divide"),
        (lambda: LocalAttention(8, 2, 0), "segment"),
        (lambda: Recurrence(0), "model_dim"),
        (lambda: PerformerAttention(8, 2, seeded(), 0), "features"),
        (lambda: BinnedMemoryAttention(8, 2, 0, 4), "basis"),
        (lambda: BinnedMemoryAttention(8, 2, 4, 0), "segment"),
        (lambda: MemorySettings(basis=1), "basis"),
        (lambda: MemorySettings(segment=0), "segment"),
        (lambda: MemorySettings(bins=0), "bins"),
        (lambda: MemorySettings(widths=()), "widths"),
        (lambda: MemorySettings(widths=(0.0,)), "widths"),
        (lambda: MemorySettings(widths=(float("nan"),)), "widths"),
        (lambda: MemorySettings(widths=(1.0, 2.0, 3.0)), "widths"),
        (lambda: MemorySettings(ridge=0.0), "ridge"),
        (lambda: MemorySettings(prior_width=0.0), "prior_width"),
        (lambda: MemorySettings(initial_widths=(0.4, 0.0)), "initial_widths"),
        (lambda: MemorySettings(contraction=1.0), "contraction"),
        (lambda: MemorySettings(contraction=0.0), "contraction"),
        (lambda: InfiniteFormerAttention(16, 2, MemorySettings(samples=63)), "explode"),
        (lambda: MemorySettings(sampling="other"), "sticky, sticky_random, uniform, even"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("kernel", KERNELS)
def test_second_derivatives_of_favor_attention(kernel):
    inputs = [each[:1].requires_grad_() for each in heads_of(0.7, 3, head_dim=3, dtype=torch.float64)]
    rows, mask = draw_projection("orthogonal", 4, 3, seeded()).double(), torch.tensor([[True, True, False]])
    form = lambda *x: favor_attention(*x, rows, kernel, key_mask=mask)  # noqa: E731
    assert torch.autograd.gradgradcheck(form, inputs)


def test_second_derivatives_where_keys_are_values():
    """An input that others are made of is differentiated once: gradients of gradients are those of the equation."""
    x, rows = heads_of(dtype=torch.float64)[0].requires_grad_(), draw_projection("orthogonal", 4, 4, seeded()).double()
    results = []
    for form in (
        lambda q, k, v: favor_attention(q, k, v, rows),
        lambda q, k, v: written_out.favor_weights(q, k, rows, "positive") @ v,
    ):
        (first,) = torch.autograd.grad(form(x, x.sin(), x.sin() * x).square().sum(), x, create_graph=True)
        results.append((first, *torch.autograd.grad(first.square().sum(), x)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


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
        module, inputs, mask = built(kind).eval(), events(), prefix([40, 37], 40)
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


def test_what_cannot_be_followed_says_so():
    rows, inputs = draw_projection("orthogonal", 8, 4, seeded()), heads_of()
    with pytest.raises(NotImplementedError, match="not the causal form"):
        grad(lambda q: favor_attention(q, *inputs[1:], rows, causal=True).sum())(inputs[0])
    with pytest.raises(NotImplementedError, match="not steps of a stream"):
        grad(lambda x: built("uniform").step(x)[0].output.sum())(events(2, 16))
    query = inputs[0].requires_grad_()
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        torch.autograd.grad(favor_attention(query, *inputs[1:], rows, causal=True).sum(), query, create_graph=True)
