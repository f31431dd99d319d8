"""Past-token masking: which tokens a query misses while a model learns."""

import math

import pytest
import torch
from models import ATTENTION, tiny

from heedful.batch import Branch, Group, attention, collate
from heedful.errors import RunError
from heedful.masking import missed, without
from heedful.policy import Policy

pytestmark = pytest.mark.usefixtures("one_thread")


def group(share: float, *, key: float = 7.0, prompt=(1, 5, 6), sizes=(6, 4), id="a") -> Group:
    branches = []
    for n, size in enumerate(sizes):
        tokens = [10 + (3 * n + 5 * i) % 60 for i in range(size)]
        branches.append(Branch(tokens, {"mask": [1.0] * size}, {"masked_share": share, "masking_key": key + n}))
    return Group(id, prompt, branches)


def logp(policy: Policy, groups, *, tree: bool) -> torch.Tensor:
    """By response, in order, whatever the layout."""
    batch = collate(groups, tree=tree)
    out = policy(batch).logp.flatten()
    return torch.cat([out[batch.response.flatten() == n] for n in range(len(batch.group))])


@pytest.mark.parametrize("tree", [True, False])
def test_a_share_of_zero_changes_no_bit(tree):
    policy = Policy(tiny("llama")).train()
    bare = [Group(g.id, g.prompt, [Branch(b.tokens, b.streams) for b in g.branches]) for g in [group(0.0)]]
    assert torch.equal(logp(policy, [group(0.0)], tree=tree), logp(policy, bare, tree=tree))


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_nothing_is_masked_outside_training(share):
    policy = Policy(tiny("llama")).eval()
    assert torch.equal(logp(policy, [group(share)], tree=True), logp(policy, [group(0.0)], tree=True))
    policy.train()
    assert not torch.allclose(logp(policy, [group(share)], tree=True), logp(policy, [group(0.0)], tree=True))


@pytest.mark.parametrize("name", ATTENTION)
def test_with_a_share_of_one_a_token_depends_on_the_one_before_it_and_the_root_alone(name):
    policy = Policy(tiny(name)).train()
    changed = group(1.0, prompt=(1, 50, 6))  # position 1 is neither root nor the predecessor of a response's token
    found, expected = (logp(policy, [g], tree=False) for g in (changed, group(1.0)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    root = logp(policy, [group(1.0, prompt=(2, 5, 6))], tree=False)
    assert not torch.allclose(root, expected, atol=1e-3)


def test_with_a_share_of_one_only_column_0_is_left():
    batch = collate([group(1.0)], tree=False)
    sees = without(attention(batch), missed(batch))[:, 0]
    real = batch.response >= -1
    assert sees[:, :, 0][real].all()
    assert not sees[:, :, 1:][real].any()  # the diagonal is not protected
    assert sees.any(-1).all()  # padding sees itself


@pytest.mark.parametrize("name", ["llama", "gemma2"])
@torch.no_grad()
def test_layout_and_neighbours_change_no_mask(name):
    policy = Policy(tiny(name)).train()
    groups = [group(0.4), group(0.2, key=99.0, prompt=(1, 9), sizes=(5, 3, 2), id="b")]
    expected = logp(policy, groups, tree=False)
    torch.testing.assert_close(logp(policy, groups, tree=True), expected, rtol=0, atol=2e-4)
    alone = torch.cat([logp(policy, [g], tree=False) for g in groups])
    torch.testing.assert_close(alone, expected, rtol=0, atol=2e-4)


@torch.no_grad()
def test_eager_attention_masks_alike():
    policy = Policy(tiny("llama")).train()
    expected = logp(policy, [group(0.4)], tree=True)
    policy.lm.set_attn_implementation("eager")
    torch.testing.assert_close(logp(policy, [group(0.4)], tree=True), expected, rtol=0, atol=2e-4)


def test_another_key_masks_other_tokens():
    masks = [missed(collate([group(0.5, key=key)], tree=False)) for key in (1.0, 1.0, 2.0)]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_each_step_masks_other_tokens_and_uses_up_no_random_state():
    batch, masks = collate([group(0.5)], tree=False), []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            state = torch.get_rng_state()
            masks.append(missed(batch))
            assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def long_row(share: float, key: int) -> Group:
    return group(share, key=float(key), prompt=(1,), sizes=(80,))


def drops(share: float, key: int) -> torch.Tensor:
    """Flat: True where a pair below the diagonal, column 0 aside, is dropped."""
    found = missed(collate([long_row(share, key)], tree=False))[0, 0]
    below = torch.ones_like(found).tril().bool()
    below[:, 0] = False
    return found[below]


def test_the_share_of_dropped_pairs_is_the_share_asked_for():
    for share in (0.05, 0.5, 0.9):
        dropped = torch.cat([drops(share, key) for key in range(20)]).double()
        assert abs(dropped.mean().item() - share) < 4 * math.sqrt(share * (1 - share) / len(dropped))


def test_a_share_drawn_up_to_a_maximum_drops_half_of_it():
    shares = torch.linspace(1e-9, 0.05, 201)
    dropped = torch.cat([drops(share.item(), key) for key, share in enumerate(shares)]).double()
    assert dropped.mean().item() == pytest.approx(0.025, rel=0.03)


def test_pairs_are_dropped_independently():
    maps = torch.stack([drops(0.5, key).double() for key in range(200)])  # [keys, pairs]
    centred = maps - maps.mean(0)
    corner = (centred.T @ centred)[:300, :300] / len(maps)
    off = corner[~torch.eye(300, dtype=torch.bool)]
    assert off.abs().mean().item() == pytest.approx(0.25 * math.sqrt(2 / math.pi / 200), rel=0.05)  # as of coins


def test_a_model_without_attention_is_told_to_leave_it_out():
    policy = Policy(tiny("mamba")).train()
    policy.reads_trees = False
    with pytest.raises(RunError, match="no past token can be masked"):
        logp(policy, [group(0.5)], tree=False)
