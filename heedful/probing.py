"""Whether a model reads a tree of responses as it reads one response per row, found out by trying."""

import logging

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heedful import encoder_decoder
from heedful.batch import Branch, Group, TreeBatch, collate
from heedful.errors import RunError
from heedful.policy import Policy, embedding, full_precision

log = logging.getLogger(__name__)

PROBE_TOLERANCE = 1e-3  # nats; above it the model reads plain rows only


def probe(policy: Policy) -> None:
    """Compare tree and plain on one row, and both with the model's own logits; read plain rows only if they differ.

    Raises:
        RunError: the model's own logits are not finite, or not what `Policy.logits` computes.
    """
    group = _probe_group(policy.lm)
    training = policy.training
    policy.eval()
    with torch.no_grad():
        plain_batch = collate([group], tree=False).to(policy.lm.device)
        plain = policy(plain_batch).logp.sum(-1)
        own = _own_logp(policy.lm, plain_batch)
        _require_own_head(policy, plain, own)
        policy.reads_trees = _tree_agrees(policy, group, plain)
    policy.train(training)


def _probe_group(lm: PreTrainedModel) -> Group:
    start, ones = encoder_decoder.start_token(lm.config, str(lm.name_or_path)), [1.0] * 4
    ids = [id for id in ((7 * i + 3) % embedding(lm).shape[0] for i in range(13)) if id != start]
    prompt = ids[:4] if start is None else [*ids[:3], start]
    return Group("probe", prompt, [Branch(ids[4:8], {"mask": ones}), Branch(ids[8:12], {"mask": ones})])


def _require_own_head(policy: Policy, found: Tensor, own: Tensor) -> None:
    where = policy.lm.name_or_path or policy.name
    if not own.isfinite().all():
        raise RunError("its logits are not finite", where=where, hint="its weights are broken: take another checkpoint")
    if not torch.allclose(found, own, atol=PROBE_TOLERANCE):
        raise RunError(
            f"the LM head of {policy.name} is not one matrix, as that of BERT is not",
            where=where,
            allowed="a causal language model such as GPT-2, Llama, Qwen or Mamba",
        )


def _own_logp(lm: PreTrainedModel, batch: TreeBatch) -> Tensor:
    """[B] by the model's own forward, of responses of four tokens."""
    prompt, tokens = batch.tokens[:, :-4], batch.tokens[:, -4:]
    if lm.config.is_encoder_decoder:
        parts = {"input_ids": prompt[:, :-1], "decoder_input_ids": batch.tokens[:, -5:]}
    else:
        parts = {"input_ids": batch.tokens}
    logp = full_precision(lm(**parts, use_cache=False).logits).log_softmax(-1)[:, -5:-1]
    return logp.gather(-1, tokens[..., None]).squeeze(-1).sum(-1)


def _tree_agrees(policy: Policy, group: Group, plain: Tensor) -> bool:
    batch = collate([group], tree=True).to(policy.lm.device)
    try:
        logp = policy(batch).logp.flatten()
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        log.warning("%s does not read tree batches (%s); using one response per row", policy.name, error)
        return False
    sums = torch.stack([logp[batch.response.flatten() == n].sum() for n in range(len(plain))])
    difference = (sums - plain).abs().max().item()
    if difference > PROBE_TOLERANCE:
        log.warning("%s reads tree batches wrongly (%.1e nats); using one response per row", policy.name, difference)
    return difference <= PROBE_TOLERANCE
