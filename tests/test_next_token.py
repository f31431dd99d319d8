"""What the model says of the whole next-token distribution: values, gradients, chunks, with an encoder and without."""

import math

import pytest
import torch
from models import PAD, tiny
from tiny_methods import build_variant, feedback_for
from tiny_text import make_text
from torch import tensor

from heedful.batch import DISTRIBUTION, collate
from heedful.next_token import LabelLogp, Spread
from heedful.policy import Policy

pytestmark = pytest.mark.usefixtures("one_thread")


def logits():
    return torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def plain(logits):
    logp = logits.log_softmax(-1)
    return -(logp.exp() * logp).sum(-1), logp.mean(-1)


def test_entropy_and_mean_are_those_of_the_distribution():
    for found, wanted in zip(Spread.apply(logits()), plain(logits())):
        assert torch.allclose(found, wanted, atol=1e-12)


def test_gradients_match_finite_differences():
    assert torch.autograd.gradcheck(Spread.apply, (logits().requires_grad_(),))
    inverse, labels = tensor([0, 2, 2, 3, 1]), tensor([1, 6, 0, 3, 3])
    assert torch.autograd.gradcheck(lambda x: LabelLogp.apply(x, inverse, labels), (logits().requires_grad_(),))


def test_uniform_logits_have_the_entropy_log_v_and_no_gradient():
    flat = torch.zeros(1, 7, dtype=torch.float64, requires_grad=True)
    entropy, mean = Spread.apply(flat)
    assert entropy.item() == pytest.approx(math.log(7)) and mean.item() == pytest.approx(-math.log(7))
    entropy.sum().backward()
    assert flat.grad.abs().max() < 1e-15


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_logits_stay_finite(scale):
    x = (scale * torch.arange(6.0)[None]).requires_grad_()
    entropy, mean = Spread.apply(x)
    (entropy + mean).sum().backward()
    assert entropy.isfinite().all() and mean.isfinite().all() and x.grad.isfinite().all()


def policy_and_batch(model="llama", *, tree=True):
    text = make_text(merges=[("a", "b"), ("c", "d")], control=True)
    if model == "t5":
        text = make_text(merges=[("a", "b"), ("c", "d")], control=True, bos_token=None, start_id=PAD)
    built = build_variant("hir", feedback_for("hir", 4), text=text)
    policy = Policy(tiny(model)).double().eval()
    return policy, collate(built.groups, tree=tree, dtype=torch.float64), built


@pytest.mark.parametrize("tree", [True, False])
def test_the_model_gives_those_of_each_tokens_distribution(tree):
    policy, batch, built = policy_and_batch(tree=tree)
    found = policy(batch)
    of = batch.response.flatten()
    branches = [(group, branch) for group in built.groups for branch in group.branches]
    for number, (group, branch) in enumerate(branches):
        before = len(group.prompt) - 1
        every = policy.lm(tensor([[*group.prompt, *branch.tokens]])).logits[0, before:-1]
        mask = tensor(branch.streams[DISTRIBUTION]) != 0
        for mine, wanted in zip((found.entropy, found.vocabulary_logp), plain(every)):
            assert torch.allclose(mine.flatten()[of == number][mask], wanted[mask], atol=1e-9)


@pytest.mark.parametrize("model", ["llama", "t5"])
def test_chunks_change_neither_values_nor_gradients(monkeypatch, model):
    policy, batch, _ = policy_and_batch(model)

    def both():
        policy.zero_grad()
        found = policy(batch)
        values = (found.logp, found.entropy, found.vocabulary_logp)
        sum((n + 1) * x.sum() for n, x in enumerate(values)).backward()
        return *values, *(p.grad.clone() for p in policy.parameters() if p.grad is not None)

    whole = both()
    monkeypatch.setattr(Policy, "chunk_size", lambda self, device: 3)
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(both(), whole, strict=True))


def test_nobody_asked_and_nothing_is_made():
    built = build_variant("mle", feedback_for("mle"))
    found = Policy(tiny("llama"))(collate(built.groups, tree=True))
    assert found.entropy is None and found.vocabulary_logp is None
