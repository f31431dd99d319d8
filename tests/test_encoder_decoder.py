"""Models with an encoder: the same batches, the numbers that transformers gives, and a prompt encoded once."""

import pytest
import torch
from models import ENCODER_DECODERS, EOS, PAD, VOCAB, tiny

from heedful import encoder_decoder
from heedful.batch import Branch, Group, collate
from heedful.config import Training
from heedful.learner import Learner
from heedful.method import Head, term
from heedful.objectives.likelihood import nll
from heedful.policy import Policy
from heedful.probing import probe
from heedful.sampling import Sampling, generate

START = PAD
pytestmark = pytest.mark.usefixtures("one_thread")


def branch(tokens):
    return Branch(tokens, {"mask": [1.0] * len(tokens)})


GROUPS = [
    Group("a", [*range(3, 23), EOS, START], [branch([*range(20, 30), EOS]), branch([*range(45)]), branch([9, EOS])]),
    Group("b", [EOS, START], [branch([20, 22]), branch([20, PAD, 22])]),
    Group("c", [7, 7, EOS, START], [branch([EOS])]),
    Group("again", [7, 7, EOS, START], [branch([8, 8, EOS])]),
    Group("begun", [7, 7, EOS, START, 5, 6], [branch([8, 8, EOS]), branch([30])]),
]


def theirs(lm, group, tokens):
    """Log-probability of each token by transformers' own forward with labels, of this one row."""
    cut = group.prompt.index(START)
    begun = [*group.prompt[cut + 1 :], *tokens]
    labels = torch.tensor([begun])
    logits = lm(input_ids=torch.tensor([group.prompt[:cut]]), labels=labels).logits[0]
    return logits.log_softmax(-1).gather(1, labels[0, :, None])[-len(tokens) :, 0]


def ours(policy, groups=GROUPS, *, tree):
    batch = collate(groups, tree=tree, dtype=policy.lm.dtype)
    logp, owner = policy(batch).logp.flatten(), batch.response.flatten()
    return [logp[owner == n] for n in range(len(batch.group))]


def nll_gradient(policy, groups, *, tree):
    policy.zero_grad()
    loss = -sum(part.sum() for part in ours(policy, groups, tree=tree))
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in policy.parameters()])


@pytest.mark.parametrize("tree", [True, False])
@pytest.mark.parametrize("name", ENCODER_DECODERS)
@torch.no_grad()
def test_each_token_has_the_log_probability_of_a_plain_forward_with_labels(name, tree):
    policy = Policy(tiny(name))
    expected = [theirs(policy.lm, group, b.tokens) for group in GROUPS for b in group.branches]
    for found, wanted in zip(ours(policy, tree=tree), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_loss_of_transformers_is_the_mean_of_ours():
    policy, group = Policy(tiny("t5")), GROUPS[0]
    tokens = group.branches[0].tokens
    loss = policy.lm(input_ids=torch.tensor([group.prompt[:-1]]), labels=torch.tensor([tokens])).loss
    assert -ours(policy, tree=False)[0].mean().item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_responses_of_one_group_are_as_many_rows_of_their_own(name):
    policy = Policy(tiny(name))
    apart = [Group(f"{g.id}{n}", g.prompt, [b]) for g in GROUPS for n, b in enumerate(g.branches)]
    together, gradient = nll_gradient(policy, GROUPS, tree=True)
    single, other = nll_gradient(policy, apart, tree=False)
    assert together == pytest.approx(single, rel=1e-5)
    assert (gradient - other).norm() < 1e-4 * other.norm()


@torch.no_grad()
def test_padding_of_a_prompt_changes_nothing():
    policy, short = Policy(tiny("t5")), GROUPS[2:]
    longer = Group("long", [*range(3, 100), EOS, START], [branch([4])])
    for alone, beside in zip(ours(policy, short, tree=True), ours(policy, [*short, longer], tree=True)):
        torch.testing.assert_close(alone, beside, atol=1e-5, rtol=0)


def encoded(lm):
    """The tokens that the encoder is given, call by call."""
    seen = []
    lm.encoder.register_forward_pre_hook(lambda _, args, given: seen.append(given["input_ids"]), with_kwargs=True)
    return seen


@torch.no_grad()
def test_a_prompt_is_encoded_once_in_trees_and_in_plain_rows():
    policy = Policy(tiny("t5"))
    seen = encoded(policy.lm)
    for tree in (True, False):
        ours(policy, tree=tree)
        assert len(seen.pop()) == 3  # of five groups: the last three have one prompt


def test_how_a_step_is_cut_changes_no_number():
    found = []
    for micro_tokens in (10_000, 30):
        policy = Policy(tiny("t5").double())
        learner = Learner(policy, Training(dtype="float64", micro_tokens=micro_tokens, optim={"lr": 1e-3}))
        learner.update([([term(nll, per="mask")], GROUPS)], 0.5)
        found.append(torch.cat([p.detach().flatten() for p in policy.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-8)  # T5's norms are in float32, and Adam divides


@torch.no_grad()
def test_the_value_of_a_first_token_is_read_where_the_decoder_starts():
    policy = Policy(tiny("t5"), {"value": Head(bias=False, detach=True)})
    torch.nn.init.ones_(policy.heads["value"].linear.weight)
    batch = collate(GROUPS[:1], tree=True)
    value = policy(batch).value
    states = policy.lm(
        input_ids=torch.tensor([GROUPS[0].prompt[:-1]]),
        decoder_input_ids=torch.tensor([[START]]),
        output_hidden_states=True,
    ).decoder_hidden_states[-1]
    firsts = [value[batch.response == n][0].item() for n in range(3)]
    assert firsts == pytest.approx([states.sum().item()] * 3, abs=1e-4)


def test_the_probe_agrees_and_leaves_the_decoder_as_it_was():
    policy = Policy(tiny("t5"))
    probe(policy)
    assert policy.reads_trees and "forward" not in vars(policy.lm.decoder)


def test_chunks_of_the_head_change_no_number(monkeypatch):
    policy, results = Policy(tiny("t5").double()), []
    for elements in (2**25, VOCAB * 5):
        monkeypatch.setattr("heedful.policy.CHUNK_ELEMENTS", {"cpu": elements})
        results.append(nll_gradient(policy, GROUPS, tree=True))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-12)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ENCODER_DECODERS)
@torch.no_grad()
def test_masked_past_tokens_are_those_that_the_decoder_wrote(name, share):
    fields = {"masked_share": share, "masking_key": 5.0}
    policy = Policy(tiny(name)).train()
    torch.manual_seed(0)

    def of_last(*tokens):
        group = Group("a", [7, 8, EOS, START], [Branch(tokens, {"mask": [1.0] * len(tokens)}, fields)])
        return ours(policy, [group], tree=False)[0][-1].item()

    changes = [of_last(*tokens, 20, 9) for tokens in ([30, 31, 32, 33], [40, 31, 32, 33], [30, 31, 32, 43])]
    assert (len({round(value, 5) for value in changes}) == 1) == (share == 1.0)
    unmasked = theirs(policy.lm, Group("a", [7, 8, EOS, START], []), [30, 31, 32, 33, 20, 9])[-1].item()
    assert (changes[0] == pytest.approx(unmasked, abs=1e-4)) == (share == 0.0)


@torch.no_grad()
def test_trees_and_plain_rows_miss_the_same_tokens():
    fields = {"masked_share": 0.5, "masking_key": 5.0}
    groups = [Group(g.id, g.prompt, [Branch(b.tokens, b.streams, fields) for b in g.branches]) for g in GROUPS]
    policy = Policy(tiny("t5")).train()
    torch.manual_seed(0)
    for one, other in zip(ours(policy, groups, tree=True), ours(policy, groups, tree=False)):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


# ---- sampling


class Letters:
    """A text whose token i is the letter i of a fixed row; special tokens are nothing."""

    eos_id = EOS

    def decode(self, ids):
        return "".join(chr(0x100 + i) for i in ids if i not in (PAD, EOS))


PROMPTS = [[7, 8, 9, EOS, START], [EOS, START], [*range(20, 41), EOS, START], [99, 98, EOS, START]]
BEGUN = [*PROMPTS, [7, 8, 9, EOS, START, 5, 6, 44], [99, 98, EOS, START, 5]]


def draw(lm, prompts, *, k=1, batch_size=128, **settings):
    return generate(lm, Letters(), prompts, Sampling(**{"max_tokens": 12, **settings}), k=k, batch_size=batch_size)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_greedy_is_hugging_face_generate_token_for_token(name):
    lm = tiny(name)
    for prompt, (sample,) in zip(BEGUN, draw(lm, BEGUN, temperature=0)):
        cut = prompt.index(START)
        begun = torch.tensor([prompt[cut:]])
        options = {"max_new_tokens": 12, "do_sample": False}
        found = lm.generate(torch.tensor([prompt[:cut]]), decoder_input_ids=begun, **options)
        assert list(sample.tokens) == found[0, begun.shape[1] :].tolist()


@pytest.mark.parametrize("name", ENCODER_DECODERS)
@torch.no_grad()
def test_kept_logp_is_what_scoring_gives(name):
    policy = Policy(tiny(name))
    drawn = draw(policy.lm, BEGUN, k=3, top_p=0.9, batch_size=7)
    groups = [Group(str(n), p, [branch(s.tokens) for s in several]) for n, (p, several) in enumerate(zip(BEGUN, drawn))]
    kept = [torch.tensor(sample.logp) for several in drawn for sample in several]
    for found, expected in zip(ours(policy, groups, tree=True), kept, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_rows_beside_a_sample_change_nothing_and_a_prompt_is_encoded_once():
    lm = tiny("t5")
    seen = encoded(lm)
    together = draw(lm, BEGUN, k=4)
    assert [len(ids) for ids in seen] == [4]  # what BEGUN adds to PROMPTS has the same prompts
    alone = [draw(lm, BEGUN[n : n + 1], k=1)[0][0].tokens for n in range(1)]
    assert alone == [several[0].tokens for several in together[:1]]
    assert [[s.tokens for s in several] for several in draw(lm, BEGUN, k=4, batch_size=3)] == [
        [s.tokens for s in several] for several in together
    ]


def test_small_prefills_change_no_token(monkeypatch):
    lm = tiny("t5")
    whole = draw(lm, PROMPTS, k=2)
    monkeypatch.setattr(encoder_decoder, "PREFILL_TOKENS", 30)
    seen = encoded(lm)
    assert draw(lm, PROMPTS, k=2) == whole and [len(ids) for ids in seen] == [1] * 4
