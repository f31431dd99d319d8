"""What logits say of the next token, with gradients that make one new [U, V] where autograd makes four."""

import torch
from torch import Tensor


class LabelLogp(torch.autograd.Function):
    """[M] log-probability of `labels`, each under row `inverse` of the logits [U, V].

    As `logits.log_softmax(-1)[inverse, labels]`.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, inverse: Tensor, labels: Tensor) -> Tensor:
        total = logits.logsumexp(-1)
        ctx.save_for_backward(logits, total, inverse, labels)
        return logits.flatten().index_select(0, _flat(logits, inverse, labels)) - total.index_select(0, inverse)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        logits, total, inverse, labels = ctx.saved_tensors
        each = torch.zeros_like(total).index_add_(0, inverse, gradient)
        result = (logits - total[:, None]).exp_().mul_(-each[:, None])
        result.view(-1).index_add_(0, _flat(logits, inverse, labels), gradient)
        return result, None, None


class Spread(torch.autograd.Function):
    """[U] entropy of each row of the logits [U, V], in nats, and [U] mean over the vocabulary of log p.

    H = -sum_v p_v log p_v,   dH/dz_v = -p_v (log p_v + H)
    m = 1/V sum_v log p_v,    dm/dz_v = 1/V - p_v
    """

    @staticmethod
    def forward(ctx, logits: Tensor) -> tuple[Tensor, Tensor]:
        total = logits.logsumexp(-1)
        p = (logits - total[:, None]).exp_()
        entropy = total - p.mul_(logits).nan_to_num_(nan=0.0).sum(-1)  # a logit of -inf has p = 0
        ctx.save_for_backward(logits, total, entropy)
        return entropy, logits.mean(-1) - total

    @staticmethod
    def backward(ctx, entropy_gradient: Tensor, mean_gradient: Tensor) -> Tensor:
        logits, total, entropy = ctx.saved_tensors
        logp = logits - total[:, None]
        p = logp.exp()
        logp.add_(entropy[:, None]).mul_(-entropy_gradient[:, None]).sub_(mean_gradient[:, None]).mul_(p)
        return logp.nan_to_num_(nan=0.0).add_(mean_gradient[:, None] / logits.shape[-1])


def _flat(logits: Tensor, inverse: Tensor, labels: Tensor) -> Tensor:
    return inverse * logits.shape[-1] + labels
