"""What a model gives to a text it did not write."""

import pytest
import torch
from models import EOS, PAD, tiny

from heedful.batch import Branch, Group
from heedful.evals.likelihood import read_tokens
from heedful.policy import Policy

BANNED = (7, 8)
GROUPS = [
    Group("long", (1, 5, 6), (Branch((9, 10, 11, 12), {"mask": (1.0, 0.0, 1.0, 1.0)}),)),
    Group("short", (1,), (Branch((20, 21), {"mask": (1.0, 1.0)}),)),
]


def by_hand(policy: Policy, tokens: list[int], at: int) -> torch.Tensor:
    """Log-probabilities of the token at a position, `BANNED` out."""
    logits = policy.lm(torch.tensor([tokens])).logits[0, at - 1]
    logits[list(BANNED)] = -torch.inf
    return logits.log_softmax(-1)


@torch.no_grad()
def test_a_reading_is_the_logp_the_hit_and_the_kl_of_each_read_token():
    policy, base = Policy(tiny("llama")), Policy(tiny("llama", seed=1))
    found = read_tokens(policy, GROUPS, banned=BANNED, reference=(base, GROUPS))[1]
    for n, at in enumerate((1, 2)):
        mine, other = by_hand(policy, [1, 20, 21], at), by_hand(base, [1, 20, 21], at)
        assert found.logp[n].item() == pytest.approx(mine[19 + at].item(), abs=1e-5)
        assert found.hit[n].item() == (mine.argmax().item() == 19 + at)
        kept = mine.isfinite()
        kl = (mine[kept].exp() * (mine[kept] - other[kept])).sum().item()
        assert found.kl[n].item() == pytest.approx(kl, abs=1e-4)


@torch.no_grad()
def test_of_an_encoder_decoder_what_is_read_is_what_the_decoder_writes():
    policy, base = Policy(tiny("t5")), Policy(tiny("t5", seed=1))
    marked = [Group("a", (5, 6, EOS, PAD, 9), (Branch((20, 21), {"mask": (1.0, 1.0)}),))]  # PAD is where it starts
    plain = [Group("a", (5, 6, EOS, PAD), marked[0].branches)]
    (found,) = read_tokens(policy, marked, reference=(base, plain))
    mine, other = _distributions(policy.lm, [PAD, 9, 20])[1:], _distributions(base.lm, [PAD, 20])
    assert found.logp.tolist() == pytest.approx([mine[0, 20].item(), mine[1, 21].item()], abs=1e-5)
    assert found.kl.tolist() == pytest.approx((mine.exp() * (mine - other)).sum(-1).tolist(), abs=1e-4)


def _distributions(lm, decoded: list[int]) -> torch.Tensor:
    parts = {"input_ids": torch.tensor([[5, 6, EOS]]), "decoder_input_ids": torch.tensor([decoded])}
    return lm(**parts).logits[0].log_softmax(-1)


def test_chunks_of_the_head_change_no_reading(monkeypatch):
    policy, base = Policy(tiny("llama")), Policy(tiny("llama", seed=1))
    whole = read_tokens(policy, GROUPS, banned=BANNED, reference=(base, GROUPS))
    monkeypatch.setattr("heedful.policy.CHUNK_ELEMENTS", {"cpu": 2 * 112})
    sizes = []
    head = Policy.logits
    monkeypatch.setattr(Policy, "logits", lambda self, hidden: (sizes.append(len(hidden)), head(self, hidden))[1])
    chunked = read_tokens(policy, GROUPS, banned=BANNED, reference=(base, GROUPS))
    assert sizes == [2, 2, 2, 2, 1, 1]  # five read tokens, two models
    for one, other in zip(whole, chunked, strict=True):
        torch.testing.assert_close(one.logp, other.logp)
        torch.testing.assert_close(one.kl, other.kl)
        assert one.hit.tolist() == other.hit.tolist()
    assert not len(read_tokens(policy, GROUPS)[0].kl)


def test_a_response_without_a_read_token_has_an_empty_reading():
    (found,) = read_tokens(Policy(tiny("llama")), [Group("unread", (1, 5), (Branch((6,), {"mask": (0.0,)}),))])
    assert found.logp.tolist() == found.hit.tolist() == []
