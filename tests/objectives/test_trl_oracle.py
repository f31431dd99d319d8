"""Our losses against TRL 1.16: its own trainers compute theirs, on a model small enough for float64.

Nothing of TRL's is copied: the loss methods run as they are, on trainers that were not set up, with a table of bigram
logits as the model. `pip install --no-deps trl==1.16.0` brings what is needed.
"""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch import nn, tensor

from heedful.objectives.calibration import rank_hinge
from heedful.objectives.comparison import (
    bradley_terry,
    dpo_hinge,
    dpo_sigmoid,
    ipo,
    ipo_per_token,
    kto,
    mismatched_log_ratio,
)
from heedful.objectives.likelihood import nll

pytest.importorskip("trl", minversion="1.16", reason="needs `pip install --no-deps trl==1.16.0`")

from trl import DPOTrainer, KTOTrainer, RewardTrainer
from trl.experimental.cpo import CPOTrainer

VOCAB, PROMPT = 11, 2
LENGTHS = [5, 3, 1, 2, 6, 4]  # tokens of the responses: three preferred, then the three they are preferred to
PAIR, EVERY_PAIR = tensor([[0, 3], [1, 4], [2, 5]]), torch.ones(3, dtype=torch.float64)


class Bigram(nn.Module):
    """Next-token logits that depend on the token before alone, read in the ways that TRL reads a model."""

    is_gradient_checkpointing = False

    def __init__(self, seed):
        super().__init__()
        table = torch.randn(VOCAB, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        self.table = nn.Parameter(table)

    def forward(self, input_ids, labels=None, **ignored):
        logits = self.table[input_ids]
        if labels is None:
            return SimpleNamespace(logits=logits)
        logp = logits[:, :-1].log_softmax(-1).gather(2, input_ids[:, 1:, None]).squeeze(2)
        unread = torch.zeros_like(logp).detach()  # metrics only
        return SimpleNamespace(
            log_probs=logp * (labels[:, 1:] != -100), entropy=unread, mean_logits=unread, is_top1=unread.bool()
        )


class Scorer(Bigram):
    """A reward for a whole sequence."""

    def forward(self, input_ids, **ignored):
        return SimpleNamespace(logits=self.table[input_ids[:, :-1], input_ids[:, 1:]].sum(1, keepdim=True))


POLICY, REFERENCE = Bigram(0), Bigram(1)


def sequences(lengths, seed=2):
    """Right-padded prompts with responses: token ids, what is not padding, what is the response."""
    width = PROMPT + max(lengths)
    ids = torch.randint(1, VOCAB, (len(lengths), width), generator=torch.Generator().manual_seed(seed))
    place, stop = torch.arange(width), PROMPT + tensor(lengths)[:, None]
    real = (place < stop).long()
    return {"input_ids": ids * real, "attention_mask": real, "completion_mask": real * (place >= PROMPT)}


def read(model, rows):
    """What `TreeBatch.by_response` would give: the sum of each response's log-probabilities."""
    ids, mask = rows["input_ids"], rows["completion_mask"]
    return (model.table.log_softmax(-1)[ids[:, :-1], ids[:, 1:]] * mask[:, 1:]).sum(1)


def trainer(kind, **attributes):
    """A TRL trainer that has only what its loss reads."""
    one_process = SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x)
    made = object.__new__(kind)
    made.__dict__.update(
        accelerator=one_process,
        model=POLICY,
        ref_model=REFERENCE,
        aux_loss_enabled=False,
        precompute_ref_logps=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
        **attributes,
    )
    return made


def trl_dpo(loss, rows, beta, label_smoothing=0.0):
    made = trainer(
        DPOTrainer,
        loss_types=[loss],
        loss_weights=[1.0],
        beta=beta,
        label_smoothing=label_smoothing,
        f_divergence_type="reverse_kl",
        ld_alpha=None,
        use_weighting=False,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
    )
    return made._compute_loss(POLICY, rows, return_outputs=False)


def trl_kto(rows, mismatched, labels, **knobs):
    made = trainer(
        KTOTrainer,
        loss_type="kto",
        calculate_KL=True,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        **knobs,
    )
    batch = {**rows, **{f"KL_{name}": value for name, value in mismatched.items()}, "label": labels}
    return made._compute_loss(POLICY, batch, return_outputs=False)


def trl_cpo(loss, rows, beta, label_smoothing=0.0, cpo_alpha=0.0):
    made = trainer(
        CPOTrainer,
        loss_type=loss,
        beta=beta,
        label_smoothing=label_smoothing,
        cpo_alpha=cpo_alpha,
        alpha=0.0,
        is_encoder_decoder=False,
        pad_token_id=0,
    )
    labels = rows["input_ids"].masked_fill(rows["completion_mask"] == 0, -100)
    columns = {"input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"], "labels": labels}
    halves = {name: value.chunk(2) for name, value in columns.items()}
    batch = {
        f"{side}_{name}": half[i] for i, side in enumerate(("chosen", "rejected")) for name, half in halves.items()
    }
    return made.get_batch_loss_metrics(POLICY, batch)[0]


def same(ours, theirs, model=POLICY):
    """The same number, and the same gradient at every weight of the model."""
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    (mine,), (yours,) = (torch.autograd.grad(loss, model.parameters()) for loss in (ours, theirs))
    assert yours.abs().max() > 0
    assert mine.flatten().tolist() == pytest.approx(yours.flatten().tolist(), abs=1e-12)


def responses(rows):
    """Log-probabilities of the responses under the policy, and under the reference."""
    return read(POLICY, rows), read(REFERENCE, rows).detach()


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_dpo_sigmoid_is_trl_sigmoid(beta):
    rows = sequences(LENGTHS)
    ours = dpo_sigmoid(*responses(rows), PAIR, EVERY_PAIR, beta=beta, label_smoothing=0.0) / 3
    same(ours, trl_dpo("sigmoid", rows, beta))


def test_smoothed_dpo_is_the_mean_of_trl_aot_on_one_pair_at_a_time():
    rows = sequences(LENGTHS)  # TRL's sigmoid ignores label_smoothing; its aot, on one pair, is what smoothing is
    ours = dpo_sigmoid(*responses(rows), PAIR, EVERY_PAIR, beta=0.3, label_smoothing=0.2) / 3
    alone = [{name: value[one] for name, value in rows.items()} for one in PAIR]
    same(ours, sum(trl_dpo("aot", each, 0.3, label_smoothing=0.2) for each in alone) / 3)


def test_smoothed_dpo_without_a_reference_is_trl_cpo_sigmoid():
    rows = sequences(LENGTHS)
    logp = read(POLICY, rows)
    ours = dpo_sigmoid(logp, torch.zeros_like(logp), PAIR, EVERY_PAIR, beta=0.3, label_smoothing=0.2) / 3
    same(ours, trl_cpo("sigmoid", rows, 0.3, label_smoothing=0.2))


def test_trl_robust_is_dpo_with_the_swapped_pair_at_a_negative_weight():
    rows, e = sequences(LENGTHS), 0.2
    pair, weight = torch.cat([PAIR, PAIR.flip(1)]), torch.cat([(1 - e) * EVERY_PAIR, -e * EVERY_PAIR]) / (1 - 2 * e)
    ours = dpo_sigmoid(*responses(rows), pair, weight, beta=0.3, label_smoothing=0.0) / 3
    same(ours, trl_dpo("robust", rows, 0.3, label_smoothing=e))


@pytest.mark.parametrize("beta", [0.05, 0.2])
def test_dpo_hinge_is_trl_hinge(beta):
    rows = sequences(LENGTHS)
    same(dpo_hinge(*responses(rows), PAIR, EVERY_PAIR, beta=beta) / 3, trl_dpo("hinge", rows, beta))


@pytest.mark.parametrize("tau", [0.1, 0.8])
def test_ipo_per_token_is_trl_ipo(tau):
    rows = sequences(LENGTHS)
    num_tokens = rows["completion_mask"].sum(1).double()
    same(ipo_per_token(*responses(rows), num_tokens, PAIR, EVERY_PAIR, tau=tau) / 3, trl_dpo("ipo", rows, tau))


def test_ipo_on_sums_is_trl_ipo_for_responses_of_one_token_and_only_for_those():
    rows = sequences([1] * 6)
    same(ipo(*responses(rows), PAIR, EVERY_PAIR, tau=0.1) / 3, trl_dpo("ipo", rows, 0.1))
    rows = sequences(LENGTHS)
    ours = ipo(*responses(rows), PAIR, EVERY_PAIR, tau=0.1) / 3
    assert ours.item() != pytest.approx(trl_dpo("ipo", rows, 0.1).item(), rel=0.1)


LABELS = {"both": [1, 0, 1, 1, 0, 0], "good": [1] * 6, "bad": [0] * 6}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("mismatch", [3, 4])
def test_kto_is_trl_kto_with_z0_from_mismatched_responses(labels, mismatch):
    rows, mismatched = sequences(LENGTHS), sequences(LENGTHS, seed=mismatch)
    every, none = torch.ones(6).double(), torch.zeros(6).double()
    good = tensor(labels).double()
    logp, ref = (torch.cat(both) for both in zip(responses(rows), responses(mismatched)))
    z0 = (mismatched_log_ratio(logp, ref, torch.cat([none, every])) / 6).clamp_min(0)
    knobs = {"beta": 0.4, "desirable_weight": 1.3, "undesirable_weight": 0.8}
    ours = kto(logp, ref, torch.cat([2 * good - 1, none]), z0, **knobs) / 6
    same(ours, trl_kto(rows, mismatched, tensor(labels, dtype=torch.bool), **knobs))


def test_those_two_mismatches_have_a_z0_above_zero_and_one_that_is_clamped():
    means = [(read(POLICY, rows) - read(REFERENCE, rows)).mean() for rows in (sequences(LENGTHS, s) for s in (3, 4))]
    assert min(means) < 0 < max(means)


def test_bradley_terry_of_two_responses_is_trl_reward_loss():
    scorer, rows = Scorer(5), sequences(LENGTHS)
    made = trainer(RewardTrainer, args=SimpleNamespace(center_rewards_coefficient=None))
    inputs = {name: rows[name] for name in ("input_ids", "attention_mask")}
    theirs = made.compute_loss(scorer, dict(inputs))
    same(bradley_terry(scorer(**inputs).logits[:, 0], PAIR, EVERY_PAIR) / 3, theirs, scorer)


def test_bradley_terry_of_a_ranking_is_trl_reward_loss_of_its_pairs_spread_out():
    scorer, rows = Scorer(5), sequences([4, 2, 3])
    pair = tensor([[1, 0], [1, 2], [0, 2]])
    spread = {name: rows[name][torch.cat([pair[:, 0], pair[:, 1]])] for name in ("input_ids", "attention_mask")}
    made = trainer(RewardTrainer, args=SimpleNamespace(center_rewards_coefficient=None))
    theirs = made.compute_loss(scorer, spread)
    reward = scorer(rows["input_ids"]).logits[:, 0]
    same(bradley_terry(reward, pair, EVERY_PAIR / 3), theirs, scorer)


@pytest.mark.parametrize("margin", [1.0, 5.0, 20.0])
def test_rank_hinge_is_trl_cpo_hinge_times_the_margin(margin):
    rows = sequences(LENGTHS)
    ours = rank_hinge(read(POLICY, rows), PAIR, EVERY_PAIR, margin=margin) / 3
    same(ours, margin * trl_cpo("hinge", rows, 1 / margin))


def test_slic_hf_with_the_preferred_response_as_reference_is_trl_cpo_with_alpha():
    rows, margin, coef = sequences(LENGTHS), 5.0, 0.7
    ids, preferred = rows["input_ids"][:3], rows["completion_mask"][:3, 1:].double()
    logp = POLICY.table.log_softmax(-1)[ids[:, :-1], ids[:, 1:]]
    hinge = rank_hinge(read(POLICY, rows), PAIR, EVERY_PAIR, margin=margin) / 3
    ours = hinge + coef * nll(logp, preferred) / preferred.sum()
    same(ours, margin * trl_cpo("hinge", rows, 1 / margin, cpo_alpha=coef / margin))
