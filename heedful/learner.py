"""A policy, its optimizer and the processes round them: one optimizer step, exact however it is cut."""

import atexit
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from torch import Tensor

from heedful import checkpoint, schedule
from heedful.batch import Branch, Group, TreeBatch, by_branch, collate, keep, micro_batches, tree_is_cheaper
from heedful.config import Optim, Training
from heedful.errors import RunError
from heedful.masking import FIELDS
from heedful.method import Share, TermSpec
from heedful.models import NO_MEMORY
from heedful.policy import Policy

T = TypeVar("T")
PART_COST = {"cpu": 64}  # tokens, a thread, that one more forward and backward of 5M parameters costs; elsewhere none
LARGE = 1e6  # a reward or weight beyond it is worth a word where a loss overflows

Work = Sequence[tuple[Sequence[TermSpec], Sequence[Group]]]


class Learner:
    """A policy, its optimizer and the process group round them.

    Args:
        policy: weights in fp32 (or fp64); the forward runs in the precision `training.dtype` asks for.
        ema: decay of the average of the weights that is kept beside them.
        rates: peak learning rates of groups of parameters, where they are not `training.optim.lr`: "value" is the heads
            of that name and the critic.
        restarts: whether `restart` will be asked for; it costs a copy of what is trained.

    Attributes:
        ema: that average, of what is trained, by name; empty where none is kept.
    """

    def __init__(
        self,
        policy: Policy,
        training: Training,
        *,
        ema: float | None = None,
        rates: Mapping[str, float] | None = None,
        restarts: bool = False,
    ):
        AcceleratorState._reset_state()  # or a second training in a process could not have another precision
        precision = "bf16" if _forward_dtype(training.dtype, policy) is torch.bfloat16 else "no"
        self.accelerator = Accelerator(mixed_precision=precision, cpu=not torch.cuda.is_available())
        if self.accelerator.num_processes > 1:  # or threads of the group abort the process when it ends
            atexit.register(self.accelerator.state.destroy_process_group)
        if training.gradient_checkpointing:
            policy.lm.gradient_checkpointing_enable({"use_reentrant": False})
        self.policy = policy
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(policy, training.optim), betas=training.optim.betas, eps=training.optim.eps, fused=True
        )
        self.module = self.accelerator.prepare(policy)
        policy.forward_dtype = torch.bfloat16 if precision == "bf16" else None
        self.training, self.rates = training, dict(rates or {})
        self.dtype = next(policy.parameters()).dtype
        self.decay = ema
        self.ema = _copies(policy.learned()) if ema else {}
        self.start = _copies(policy.learned()) if restarts else {}  # before any checkpoint is loaded

    def restart(self) -> None:
        """Go back to the weights of the start, with an optimizer that has seen nothing."""
        assert self.start, "a learner that restarts is told so when it begins"
        self.policy.load_learned(self.start)
        self.optimizer.state.clear()
        self.ema = _copies(self.policy.learned()) if self.ema else {}

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that learning has changed, for a checkpoint: named tensors, and what the optimizer has beside them."""
        tensors, optimizer = checkpoint.optimizer_tensors(self.optimizer, self._names())
        tensors |= {f"policy.{name}": value for name, value in self.policy.learned().items()}
        return tensors | {f"ema.{name}": value for name, value in self.ema.items()}, optimizer

    def load(self, tensors: Mapping[str, Tensor], optimizer: Mapping[str, Any] | None = None) -> None:
        """Put back what `tensors` gave; without the optimizer's part the weights and their average alone."""
        self.policy.load_learned(_part(tensors, "policy."))
        ema = _part(tensors, "ema.")
        self.ema = {name: ema[name].clone() for name in self.ema}
        if optimizer is not None:
            checkpoint.load_optimizer(self.optimizer, tensors, optimizer, self._names())

    def _names(self) -> dict[int, str]:
        return {id(parameter): name for name, parameter in self.policy.named_parameters()}

    def batches(self, groups: Sequence[Group]) -> list[TreeBatch]:
        """This process's share of a step, cut by the token budget; every process gets equally many parts."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        budget, reads_trees = self.training.micro_tokens, self.policy.reads_trees
        cost = PART_COST.get(torch.device(self.accelerator.device).type, 0) * torch.get_num_threads()
        shares = [
            micro_batches(groups[r::world], budget, reads_trees=reads_trees, part_cost=cost) for r in range(world)
        ]
        parts = shares[rank] + [[_silent(groups[0])]] * (max(map(len, shares)) - len(shares[rank]))
        return [self.collate(part) for part in parts]

    def collate(self, groups: Sequence[Group]) -> TreeBatch:
        """One micro-batch on the device, as trees where the model reads them and they are cheaper."""
        tree = self.policy.reads_trees and tree_is_cheaper(groups)
        return collate(groups, tree=tree, dtype=self.dtype).to(self.accelerator.device)

    def update(
        self, work: Work, progress: float, *, statistics: Sequence[TermSpec] = (), where: str = ""
    ) -> dict[str, float]:
        """One optimizer step on the sum of all objectives; returns losses, gradient norms and the learning rate.

        Args:
            work: objectives, each with its groups; every divisor counts its own objective's groups.
            progress: share of the training that is done, for the learning rate.
            statistics: means over the groups of the first objective, which its terms read.
            where: the step, for messages.
        Raises:
            RunError: a loss or gradient is not finite, and the weights are as before the step; or memory ran out.
        """
        with self._out_of_memory(where):
            return self._update(work, progress, statistics, where)

    def _update(self, work: Work, progress: float, statistics: Sequence[TermSpec], where: str) -> dict[str, float]:
        self.module.train()
        known = self._statistics(statistics, work[0][1])
        plan = [
            (part, terms, batch, counts)
            for part, (terms, groups) in reversed([*enumerate(work)])  # the last reads all that is trained: see no_sync
            for counts in [_counts(terms, groups)]
            for batch in self.batches(groups)
        ]
        totals: dict[str, Tensor] = {}
        mixed: list[Tensor] = []  # the gradient of all objectives but the first, where there are others
        for number, (part, terms, batch, counts) in enumerate(plan):
            last = number == len(plan) - 1
            if not part and not mixed and len(work) > 1:
                mixed = [self.accelerator.reduce(gradient, "mean") for gradient in self._gradients()]
            with nullcontext() if last else self.accelerator.no_sync(self.module):
                loss = self._loss(terms, batch, counts, totals, known)
                self.accelerator.backward(loss * self.accelerator.num_processes)
        metrics = self._averages(totals)
        if mixed:
            metrics["grad_norm_ratio"] = _ratio(self._gradients(), mixed)
        metrics |= self._clip()
        self._require_finite(metrics, work, known, where)
        rate = schedule.learning_rate(self.training.optim, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.rates.get(group["name"], self.training.optim.lr) / self.training.optim.lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._average()
        return metrics | {name: value.item() for name, value in known.items()} | {"learning_rate": rate}

    @torch.no_grad()
    def _gradients(self) -> list[Tensor]:
        """A copy of the policy's gradients as they are; 0 where there is none yet."""
        weights = [p for group in self.optimizer.param_groups if group["name"] == "policy" for p in group["params"]]
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in weights]

    @torch.no_grad()
    def _average(self) -> None:
        """One tick of the average: m <- decay * m + (1 - decay) * weights, as InstructGPT's C.4 has it."""
        if self.decay:
            for name, value in self.policy.learned().items():
                self.ema[name].lerp_(value, 1 - self.decay)

    def averaged(self) -> AbstractContextManager[None]:
        """The policy with the average of its weights; with its own again afterwards."""
        return self._with(self.ema) if self.ema else nullcontext()

    def holding(self, tensors: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """The policy as a checkpoint was measured; with its own weights again afterwards."""
        return self._with(_part(tensors, "ema." if self.ema else "policy."))

    @contextmanager
    def _with(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        own = _copies(self.policy.learned())
        self.policy.load_learned(weights)
        try:
            yield
        finally:
            self.policy.load_learned(own)

    def critic_tokens(self, work: Work) -> int:
        """Of a step's tokens those that the critic reads as well."""
        parts = [groups for terms, groups in work if self.policy.critic and _reads_value(terms)]
        return sum(group.num_tokens for groups in parts for group in groups)

    def losses(
        self, objective: Sequence[TermSpec], groups: Sequence[Group], statistics: Sequence[TermSpec] = ()
    ) -> dict[str, float]:
        """The objective on held-out groups, without a gradient, as `eval_loss` and `eval_<term>`."""
        self.module.eval()
        counts = _counts(objective, groups)
        totals: dict[str, Tensor] = {}
        with torch.no_grad(), self._out_of_memory("validation"):
            known = self._statistics(statistics, groups)
            for batch in self.batches(groups):
                self._loss(objective, batch, counts, totals, known)
        return {f"eval_{name}": value for name, value in self._averages(totals).items()}

    @torch.no_grad()
    def read(self, groups: Sequence[Group]) -> list[list[Tensor]]:
        """The log-probability of each token of each branch, by group, on the CPU and without dropout."""
        self.module.eval()
        every = [_all_read(group) for group in groups]
        place = {id(group): n for n, group in enumerate(every)}
        found: dict[int, list[Tensor]] = {}
        for part in micro_batches(every, self.training.micro_tokens, reads_trees=self.policy.reads_trees):
            batch = self.collate(part)
            read = by_branch(self.module(batch, reads_value=False).logp, batch, part)
            found |= {place[id(group)]: values for group, values in zip(part, read)}
        return [found[n] for n in range(len(groups))]

    def _statistics(self, specs: Sequence[TermSpec], groups: Sequence[Group]) -> dict[str, Tensor]:
        """Each mean over the whole step and all processes, from one pass without a gradient."""
        if not specs:
            return {}
        counts = _counts(specs, groups)
        totals: dict[str, Tensor] = {}
        with torch.no_grad():
            for batch in self.batches(_counted(specs, groups)):
                outputs = self.module(batch, reads_value=_reads_value(specs))
                for spec in specs:
                    mean = spec(outputs, batch).total / counts[spec.per]
                    totals[spec.name] = totals.get(spec.name, torch.zeros_like(mean)) + mean
        return {name: self.accelerator.reduce(total, "sum") for name, total in totals.items()}

    @contextmanager
    def _out_of_memory(self, where: str) -> Iterator[None]:
        """Say what makes a training smaller where an allocation fails."""
        try:
            yield
        except RuntimeError as error:
            if not NO_MEMORY.search(str(error)):
                raise
            smaller = [f"--set micro_tokens={max(1, self.training.micro_tokens // 2)}"]
            smaller += [] if self.training.gradient_checkpointing else ["--set gradient_checkpointing=true"]
            hint = " or ".join([*smaller, "a smaller max_length"])
            raise RunError("out of memory", where=where, hint=hint) from error

    def _loss(
        self,
        terms: Sequence[TermSpec],
        batch: TreeBatch,
        counts: Mapping[str, float],
        totals: dict[str, Tensor],
        statistics: Mapping[str, Tensor],
    ) -> Tensor:
        outputs = self.module(batch, reads_value=_reads_value(terms))
        loss = torch.zeros((), device=batch.tokens.device, dtype=outputs.logp.dtype)
        for spec in terms:
            term = spec(outputs, batch, statistics)
            mean = term.total / counts[spec.per]
            loss = loss + term.coef * mean
            totals[term.name] = totals.get(term.name, 0.0) + mean.detach()
        totals["loss"] = totals.get("loss", 0.0) + loss.detach()
        return loss

    def _averages(self, totals: Mapping[str, Tensor]) -> dict[str, float]:
        stacked = torch.stack([total.double() for total in totals.values()])
        return dict(zip(totals, self.accelerator.reduce(stacked, "sum").tolist(), strict=True))

    def _clip(self) -> dict[str, float]:
        norms = {}
        for name in sorted({group["name"] for group in self.optimizer.param_groups}):
            parameters = [p for g in self.optimizer.param_groups if g["name"] == name for p in g["params"]]
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.training.optim.clip).item()
            norms["grad_norm" if name == "policy" else f"grad_norm_{name}"] = norm
        return norms

    def _require_finite(
        self, metrics: Mapping[str, float], work: Work, statistics: Mapping[str, Tensor], where: str
    ) -> None:
        broken = [name for name, value in metrics.items() if not math.isfinite(value)]
        if broken:
            self.optimizer.zero_grad(set_to_none=True)
            ids = self._broken(work, statistics) or [group.id for _, groups in work for group in groups]
            shown = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
            raise RunError(
                f"{', '.join(broken)} is not finite; stopped before the optimizer step (records {shown})",
                where=where,
                hint=_scores_too_large(work) or "look at these records; lower optim.lr, or set dtype to float32",
            )

    def _broken(self, work: Work, statistics: Mapping[str, Tensor]) -> list[str]:
        """The groups whose loss alone is not finite; there may be none, where only a gradient overflows."""
        with torch.no_grad():
            return [
                group.id
                for terms, groups in work
                for group in groups
                if not self._loss(terms, self.collate([group]), _counts(terms, [group]), {}, statistics).isfinite()
            ]

    @property
    def share(self) -> Share:
        """What this process does of things that all do together."""
        return Share(self.accelerator.process_index, self.accelerator.num_processes)

    def gather(self, mine: Sequence[T]) -> list[T]:
        """What all processes made of their shares, in the order of the whole."""
        if self.accelerator.num_processes == 1:
            return list(mine)
        parts = gather_object([list(mine)])
        longest = max(map(len, parts))
        return [part[n] for n in range(longest) for part in parts if n < len(part)]

    def largest(self, value: float) -> float:
        """The largest of all processes' values, so that they decide alike."""
        if self.accelerator.num_processes == 1:
            return value
        mine = torch.tensor([value], dtype=torch.float64, device=self.accelerator.device)
        return self.accelerator.gather(mine).max().item()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in weights.items()}


def _ratio(both: Sequence[Tensor], mixed: Sequence[Tensor]) -> float:
    """The norm of the mixes' gradient, with their coefficients, over that of the rest."""
    added, own = _norm(mixed), _norm([b - m for b, m in zip(both, mixed, strict=True)])
    return added / own if own else 0.0


def _norm(parts: Sequence[Tensor]) -> float:
    return torch.linalg.vector_norm(torch.stack([part.norm() for part in parts])).item()


def _parameter_groups(policy: Policy, optim: Optim) -> list[dict[str, Any]]:
    """Decay for matrices, none for biases and norms; each head is a group of its own with its own clip, and the critic
    belongs to the values."""
    groups: dict[tuple[str, float], list[Tensor]] = {}
    for name, parameter in policy.named_parameters():
        if parameter.requires_grad:
            owner = name.split(".")[1] if name.startswith("heads.") else "policy"
            owner = "value" if name.startswith("critic.") else owner
            decay = optim.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((owner, decay), []).append(parameter)
    return [
        {"params": parameters, "name": owner, "weight_decay": decay, "lr": optim.lr}
        for (owner, decay), parameters in groups.items()
    ]


def _forward_dtype(asked: str, policy: Policy) -> torch.dtype:
    if asked != "auto":
        return getattr(torch, asked)
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def _counts(terms: Sequence[TermSpec], groups: Sequence[Group]) -> dict[str, float]:
    """The divisor of each term: its stream summed over the step and all processes, known from the rows alone.

    Where nothing counts nothing can be lost either, and any divisor will do.
    """
    return {name: sum(_sum(group, name) for group in groups) or 1.0 for name in {spec.per for spec in terms}}


def _counted(specs: Sequence[TermSpec], groups: Sequence[Group]) -> Sequence[Group]:
    """The groups with only the responses that some mean counts; as they are where that would leave nothing."""
    names = {spec.per for spec in specs}
    kept = [[n for n, b in enumerate(group.branches) if any(b.fields.get(name) for name in names)] for group in groups]
    return [keep(group, indices) for group, indices in zip(groups, kept) if indices] or groups


def _reads_value(terms: Sequence[TermSpec]) -> bool:
    return any("value" in spec.reads for spec in terms)


def require_read(objective: Sequence[TermSpec], groups: Sequence[Group]) -> None:
    """A stream nobody reads is a mask built and not used: an error of the method, not of the user."""
    read = FIELDS.union(*(spec.reads for spec in objective))  # masking's are the model's to read
    made = {name for group in groups for branch in group.branches for name in (*branch.streams, *branch.fields)}
    assert made <= read, f"streams {sorted(made - read)} are made by the targets and read by no term"


def require_own_names(objectives: Sequence[Sequence[TermSpec]]) -> None:
    """Two terms of one name would be logged as their sum."""
    names = [spec.name for objective in objectives for spec in objective]
    assert len(set(names)) == len(names), f"terms {sorted(names)} share a name; give each its own with `name=`"


def _sum(group: Group, name: str) -> float:
    if name == "pair_weight":
        return sum(pair.weight for pair in group.pairs)
    return sum(sum(b.streams[name]) if name in b.streams else b.fields[name] for b in group.branches)


def _scores_too_large(work: Work) -> str:
    """What to do about numbers of the rows that no loss can bear; nothing where they are not that large."""
    branches = [branch for _, groups in work for group in groups for branch in group.branches]
    values = [abs(value) for branch in branches for stream in branch.streams.values() for value in stream]
    largest = max(values, default=0.0)
    return f"the scores are too large, up to {largest:.0e}: scale them to about 1" if largest > LARGE else ""


def _all_read(group: Group) -> Group:
    branches = [Branch(branch.tokens, {"mask": [1.0] * len(branch.tokens)}) for branch in group.branches]
    return Group(group.id, group.prompt, branches)


def _silent(group: Group) -> Group:
    branch = group.branches[0]
    streams = {name: [0.0] * len(values) for name, values in branch.streams.items()}
    return Group("padding", group.prompt, [Branch(branch.tokens, streams, dict.fromkeys(branch.fields, 0.0))])
