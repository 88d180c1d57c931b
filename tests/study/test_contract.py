"""The study's mechanisms keep the contract; a class that breaks a promise is refused with that promise's sentence."""

import subprocess
import sys
from dataclasses import replace

import pytest

from lib.storage import ROOT
from study import contract

LINEAR = f"{ROOT}/docs/linear_attention.py:LinearAttention"
KEPT = ("softmax", "explicit_softmax", "performer", "infinite_former", "local_softmax", "binned_memory", LINEAR)
HEAD = """from lib.attention.softmax import softmax_attention
from lib.attention.mechanism import MultiHeadAttention
class Mine(MultiHeadAttention):
    has_causal_form, calls = True, 0
    def attend(self, queries, keys, values, key_mask):
        return """
NO_OUTPUT = "values\n    def forward(self, events, key_mask=None):\n        return events"
COUNTS = """queries + keys + self.counted() * values
    def counted(self):
        self.calls += 1
        return self.calls"""


@pytest.mark.parametrize("check", contract.PROMISES)
@pytest.mark.parametrize("attention", KEPT)
def test_the_study_and_the_example_keep_every_promise(attention, check):
    config = replace(contract.SMALL, attention=attention)
    assert contract.broken(check, config) is None


@pytest.mark.parametrize(
    ("returned", "why"),
    [
        ("values[:, :, :1]", "events give an output of shape (3, 1, 16)"),
        (NO_OUTPUT, "forward must return an AttentionOutput"),
        (COUNTS, "the same events give another output the second time"),
        ("queries + values.mean(2, keepdim=True)", "what stands at padded places changes the output"),
        ("queries + values.flip(0)", "changes the output of real events"),
        ("queries + values / len(values)", "a history alone has another output"),
        (
            "softmax_attention(queries, keys, values, key_mask)",
            "the output of an event has a gradient to later ones",
        ),
        ("values / values.norm(dim=-1, keepdim=True)", "the output is not finite for zeros"),
        ("values * queries.exp()", "the output is not finite for events of norm 10,000"),
        ("queries.square().sum(-1, keepdim=True).sqrt() + values", "a gradient is not finite for zeros"),
        ("queries.detach()", "no gradient reaches"),
        ("values.missing", "AttributeError: 'Tensor' object has no attribute 'missing'"),
    ],
)
def test_a_broken_promise_refuses_the_class_in_one_line(tmp_path, returned, why):
    (tmp_path / f"{tmp_path.name}.py").write_text(f"{HEAD}{returned}\n")
    said = contract.refusal(f"{tmp_path}/{tmp_path.name}.py:Mine")
    assert why in said
    assert len(said.splitlines()) == 1


def test_a_user_sees_a_line_for_each_promise(tmp_path):
    (tmp_path / "own.py").write_text(f"{HEAD}queries + keys + values / len(values)\n")
    command = [sys.executable, "-m", "study.contract", "--caller", tmp_path, "own.py:Mine", LINEAR]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    words = [line.split()[0] for line in done.stdout.splitlines()]
    kept = [*len(contract.PROMISES) * ["kept"], "time"]
    assert (done.returncode, words) == (1, [*kept[:2], "BROKEN", *kept[3:], *kept]), done.stdout
