import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from lib.attention.mechanism import rotated
from lib.data.batches import collate, last_events
from lib.training.classifier import (
    ATTENTIONS,
    ByteDropout,
    Classifier,
    ModelConfig,
    ShortConvolution,
    build_attention,
    dropout,
)

SMALL = ModelConfig(model_dim=16, heads=2, feedforward_dim=16, features=8, basis=8, segment=16, samples=16)


def classifier(attention, histories, **options):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, attention=attention, **options)
    model = Classifier(config, histories, generator)
    nn.init.normal_(model.head.weight)  # zero at the start, which would hide the layers below
    return model


def scores_and_gradient(model, batch, row):
    """Class scores of all rows, and the gradient of one row's score for its class 1 to every row's numbers."""
    numbers = batch.numbers.clone().requires_grad_()
    scores, _ = model(batch.categories, numbers, batch.days, batch.key_mask)
    (gradient,) = torch.autograd.grad(scores[row, 1], numbers)
    return scores.detach(), gradient


def batch_of(histories, customers):
    starts, lengths = last_events(histories, np.array(customers), 64)
    return collate(histories, np.array(customers), starts, lengths)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_weights_are_all_that_is_needed_after_empty_memory(attention, histories):
    """What the state dict lacks would be whatever memory holds after `to_empty`, without a missing key."""
    model, batch = classifier(attention, histories).eval(), batch_of(histories, [3, 0])
    assert not any(part._non_persistent_buffers_set for part in model.modules())
    with torch.device("meta"):
        other = classifier(attention, histories).eval()
    other = other.to_empty(device="cpu")
    for tensor in (*other.parameters(), *other.buffers()):
        tensor.data.fill_(torch.nan if tensor.is_floating_point() else -1)
    other.load_state_dict(model.state_dict())
    inputs = (batch.categories, batch.numbers, batch.days, batch.key_mask)
    assert torch.equal(other(*inputs)[0], model(*inputs)[0])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_customer_depends_on_no_other_and_on_no_earlier_batch(attention, training, histories):
    """The study this one set out from gave every customer the first customer's attention."""
    model = classifier(attention, histories).train(training)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    together = batch_of(histories, [3, 0, 7, 2, 1])
    scores, gradient = scores_and_gradient(model, together, row=2)
    others = [0, 1, 3, 4]
    assert not gradient[others].any()
    assert gradient[2].any()
    alone, alone_gradient = scores_and_gradient(model, batch_of(histories, [7]), row=0)
    # Rounding: the same sums over at most 64 events, of which padding contributes exact zeros, in another order.
    torch.testing.assert_close(scores[2:3], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient[2:3], alone_gradient, rtol=1e-3, atol=1e-6)
    again, _ = scores_and_gradient(model, together, row=2)
    assert torch.equal(again, scores)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_padding_changes_nothing_whatever_it_holds(attention, histories):
    model = classifier(attention, histories).eval()
    batch = batch_of(histories, [2, 3])
    scores, _ = model(batch.categories, batch.numbers, batch.days, batch.key_mask)
    padding = ~batch.key_mask
    numbers = batch.numbers.masked_fill(padding[..., None], 7.0)
    categories = batch.categories.masked_fill(padding[..., None], 3)
    changed, _ = model(categories, numbers, batch.days.masked_fill(padding, 99.0), batch.key_mask)
    torch.testing.assert_close(changed, scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("attention", [name for name in ATTENTIONS if name != "none"])
def test_gradients_reach_every_parameter(attention, histories):
    model = classifier(attention, histories)
    batch = batch_of(histories, range(8))
    scores, regulariser = model(batch.categories, batch.numbers, batch.days, batch.key_mask)
    (nn.functional.cross_entropy(scores, batch.labels) + regulariser).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_only_the_attention_differs(histories):
    """Outside the attention modules the mechanisms have the same parameters of the same shapes."""
    shapes = []
    for attention in ATTENTIONS:
        state = classifier(attention, histories).state_dict()
        shapes.append({name: value.shape for name, value in state.items() if ".attention." not in name})
    assert all(shape == shapes[0] for shape in shapes)


def test_unknown_attention_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match=r"known: softmax, explicit_softmax, .*, performer, infinite_former"):
        build_attention(dataclasses.replace(SMALL, attention="informer"), torch.Generator())
    with pytest.raises(ValueError, match=r"unknown places 'absolute'; known: none, rotary"):
        build_attention(dataclasses.replace(SMALL, places="absolute"), torch.Generator())


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_plain_network_is_its_head_and_the_parts_make_the_scores(attention, histories):
    batch = batch_of(histories, [3, 7])
    inputs = (batch.categories, batch.numbers, batch.days, batch.key_mask)
    whole, plain = (classifier(attention, histories, counting=counting).eval() for counting in (True, False))
    nn.init.normal_(whole.sums.tables[0].weight)
    parts = whole.parts(*inputs)[0]
    assert list(parts) == ["head", "sums", "groups"]
    assert all(part.any() for part in parts.values())
    torch.testing.assert_close(sum(parts.values()), whole(*inputs)[0])
    missing, unexpected = plain.load_state_dict(whole.state_dict(), strict=False)
    assert missing == []
    assert {name.split(".")[0] for name in unexpected} == {"sums", "groups"}
    assert torch.equal(plain(*inputs)[0], parts["head"])


@pytest.mark.parametrize("attention", [name for name in ATTENTIONS if name != "gru"])
def test_order_is_seen_through_places_and_through_the_convolution(attention, histories):
    """With the ages alike, a history read backwards gives the same scores only where neither is there."""
    batch = batch_of(histories, [3, 7])
    assert batch.key_mask.all()
    days = torch.zeros_like(batch.days)
    for options in ({}, {"places": "rotary"}, {"convolution": 3}):
        model = classifier(attention, histories, counting=False, segment=64, **options).eval()
        forward, backward = (
            model.encode(categories, numbers, days, batch.key_mask)[0]
            for categories, numbers in (
                (batch.categories, batch.numbers),
                (batch.categories.flip(1), batch.numbers.flip(1)),
            )
        )
        if attention == "none" and "convolution" not in options:
            options = {}
        # A few roundings of float32 in values of order one, or a difference in what is seen.
        difference = (forward - backward.flip(1)).abs().max()
        assert difference > 1e-3 if options else difference < 1e-5


def test_rotary_products_depend_on_the_distance_alone_and_keep_lengths():
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 6, dtype=torch.float64).expand(2, 1, 1, 40, 6)
    products = (rotated(query) @ rotated(key).mT)[0, 0]
    torch.testing.assert_close(products[:-7, :-7], products[7:, 7:])
    assert products[0].unique().numel() == 40
    torch.testing.assert_close(rotated(query).norm(dim=-1), query.norm(dim=-1))
    torch.testing.assert_close(rotated(query)[:, :, :1], query[:, :, :1])
    with pytest.raises(ValueError, match="odd head_dim of 5"):
        rotated(query[..., :5])


def test_a_stream_sees_the_places_that_a_whole_history_sees():
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, attention="infinite_former", places="rotary")
    attention, events = build_attention(config, torch.Generator()), torch.randn(2, 40, 16)
    memory, found = None, []
    for part in events.split(config.segment, dim=1):
        output, memory = attention.step(part, memory=memory)
        found.append(output.output)
    torch.testing.assert_close(torch.cat(found, 1), attention(events).output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_the_convolution_is_the_sum_over_neighbours_that_are_real(width):
    torch.manual_seed(0)
    layer, events = ShortConvolution(4, width), torch.randn(2, 6, 4)
    key_mask = torch.arange(6) < torch.tensor([[6], [4]])
    found = layer(events, key_mask)
    normed, weight = layer.norm(events), layer.convolution.weight
    for row, length in enumerate((6, 4)):
        for place in range(length):
            near = range(place - (width - 1) // 2, place + width // 2 + 1)
            summed = sum(weight[..., k] @ normed[row, j] for k, j in enumerate(near) if 0 <= j < length)
            expected = nn.functional.gelu(summed + layer.convolution.bias)
            torch.testing.assert_close(found[row, place], expected, rtol=1e-4, atol=1e-5)


# Dropout from random bytes.
COUNT = 2**20
# Every statistic below stays within five standard errors, which one draw in two million exceeds.
ERRORS = 5


@pytest.mark.parametrize(("share", "dropped"), [(0.3, 77), (0.1, 26), (0.5, 128), (0.996, 255)])
def test_share_is_the_nearest_of_256_and_the_mean_is_kept(share, dropped):
    probability = 1 - dropped / 256
    torch.manual_seed(1)
    found = dropout(torch.ones(COUNT, dtype=torch.float64), share)
    assert found.unique().tolist() == pytest.approx([0, 1 / probability])
    variance = (1 - probability) / probability
    assert abs(found.mean() - 1) < ERRORS * (variance / COUNT) ** 0.5
    assert found.var() == pytest.approx(variance, rel=0.05)
    for lane in found.view(-1, 8).T:  # each of the eight bytes of a draw
        assert abs(lane.mean() - 1) < ERRORS * (variance / len(lane)) ** 0.5


def test_entries_are_independent_within_a_draw_and_between_draws():
    torch.manual_seed(0)
    kept = (dropout(torch.ones(COUNT, dtype=torch.float64), 0.3) != 0).double() - 179 / 256
    for lag in (1, 2, 3, 4, 5, 6, 7, 8, 9, 64):
        products = kept[lag:] * kept[:-lag]
        assert abs(products.mean()) < ERRORS * (179 / 256 * 77 / 256) / len(products) ** 0.5


@pytest.mark.parametrize("shape", [(), (13,), (3, 5, 7), (2, 0, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_any_shape_and_type_and_the_gradient_is_the_mask_that_was_used(shape, dtype):
    torch.manual_seed(2)
    inputs = torch.ones(shape, dtype=dtype, requires_grad=True)
    found = dropout(inputs, 0.5)
    found.sum().backward()
    assert (found.shape, found.dtype) == (shape, dtype)
    assert set(found.flatten().tolist()) <= {0.0, 2.0}
    assert torch.equal(inputs.grad, found)


def test_evaluation_and_a_share_of_zero_are_the_identity_and_draw_nothing():
    inputs = torch.ones(64)
    before = torch.get_rng_state()
    assert ByteDropout(0.3).eval()(inputs) is inputs
    assert ByteDropout(0.0)(inputs) is inputs
    assert torch.equal(torch.get_rng_state(), before)
    assert (ByteDropout(0.3)(inputs) == 0).any()
    for share in (-0.1, 0.999, 1.0):
        with pytest.raises(ValueError, match="share dropped"):
            dropout(inputs, share)
