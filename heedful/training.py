"""Train one method on one feedback file: from names and settings to a run folder with a model in it."""

import hashlib
import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from pydantic import Field

from heedful import adapters, checkpoint, memory
from heedful.adapter_export import export_adapter, export_reward_adapter
from heedful.adapters import Adapters
from heedful.batch import Group
from heedful.checkpoint import load_info
from heedful.config import Lora, Strict, Training, merge, parse
from heedful.data import FeedbackFile
from heedful.data.kinds import count_kinds, missing, usable
from heedful.data.split import opening
from heedful.disk import to_json
from heedful.errors import ConfigError, DataError, RunError
from heedful.loop import Evaluate
from heedful.loop import train as run_loop
from heedful.method import Inputs, Method, Sampler, anchored
from heedful.methods import BESIDE, HELPING, METHODS, feedback_of, feedback_with_judge, load_method
from heedful.mirrors import start as start_mirrors
from heedful.models import identify_tokenizer, load, load_text, ordinary_ids, require_embedded
from heedful.policy import Policy, context_length, fit_vocabulary, switch_off_dropout
from heedful.probes import Probes
from heedful.records import Feedback
from heedful.records import to_json as as_json
from heedful.reward import centre, load_critic
from heedful.reward_export import classifier_of, export_reward_model
from heedful.runs import Run
from heedful.schedule import stable_seed
from heedful.state import State
from heedful.text import Text

T5_LENGTH = 2 * 512  # of prompt and response together: 512 each (Raffel et al. 2020, section 3.1.2)


class Settings(Training):
    """Everything a run can be told: the loop's settings, and the method's own under `method`."""

    method: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start, and what it will do.

    Attributes:
        start: hashes of the weights and of the tokenizer it starts from.
        adapters: what was put into the policy's language model, if anything.
    """

    name: str
    settings: Settings
    method: Method
    policy: Policy
    text: Text
    feedback: Sequence[Feedback]
    held_out: Sequence[Feedback]
    start: Mapping[str, str]
    adapters: Adapters | None = None


def prepare(
    name: str,
    *,
    model: str | Path,
    feedback: Sequence[Feedback],
    settings: Mapping[str, Any] | None = None,
) -> Prepared:
    """Load the model, hold out validation prompts and build the method; nothing is written.

    Raises:
        ConfigError: unknown method or setting. DataError: the feedback cannot feed the method. RunError: no such model.
    """
    module, (resolved, config) = load_method(name), read_settings(name, settings or {})
    text = load_text(model)
    known, own_ids = len(text.tokenizer), ordinary_ids(text.tokenizer)  # before the method adds any
    tokenizer_sha256 = identify_tokenizer(text.tokenizer)
    able = learnable(name, feedback, config)
    text.drops.count("record without what the method learns from", len(feedback) - len(able))
    trained, held_out = hold_out(able, resolved.validation, resolved.max_validation, seed=resolved.seed)
    method = module.build(config, Inputs(feedback=trained, text=text, seed=resolved.seed, held_out=held_out))
    dtype = torch.float64 if resolved.dtype == "float64" else torch.float32
    if resolved.lora:
        _require_adaptable(model, resolved.lora)
    policy = load(model, heads=method.heads, dtype=dtype, seed=resolved.seed)
    require_embedded(policy.lm, own_ids, model)
    if not method.has_dropout:
        switch_off_dropout(policy.lm)
    if is_reward(method):
        classifier_of(policy.lm)  # refused now, not when it is exported
        _freeze_lm_head(policy)
    context = require_context(policy, resolved.max_length)
    text.max_length = min(resolved.max_length or context, context)
    untrained = _untrained_controls(model, method)
    lora, is_text = resolved.lora, not is_reward(method)
    base = adapters.identify(policy.lm, model)  # before it grows
    new = fit_vocabulary(policy.lm, len(text.tokenizer), known=known, untrained=untrained, seed=resolved.seed)
    added = adapters.add(policy.lm, lora, base=base, new=new, has_lm_head=is_text, seed=resolved.seed) if lora else None
    if not method.has_dropout:
        switch_off_dropout(policy.lm)  # once more: adapters bring their own
    stream = anchored(method.objective)
    if stream or method.asks_start:
        policy.keep_start(stream)
    if method.critic:
        policy.critic = load_critic(method.critic, text).to(dtype=dtype)
    start = {"base_sha256": base.sha256, "tokenizer_sha256": tokenizer_sha256}
    return Prepared(name, resolved, method, policy, text, trained, held_out, start, added)


def _require_adaptable(model: str | Path, lora: Lora) -> None:
    """Before anything is loaded."""
    adapters.require_peft()
    if lora.export == "adapter" and adapters.find(model):
        hint = "set lora.export=merged; or train from a model that was exported merged"
        what = f"{model} is an adapter, and an adapter has a whole model for its base"
        raise ConfigError(what, where="lora.export", hint=hint)


def _freeze_lm_head(policy: Policy) -> None:
    """No token of a reward model goes through it; several processes would wait for a gradient of its own weights."""
    shared = policy.lm.get_input_embeddings().weight
    for weight in policy.lm.get_output_embeddings().parameters():
        weight.requires_grad_(weight is shared)


def _untrained_controls(model: str | Path, method: Method) -> Sequence[int]:
    """Control tokens that the method uses and the model has in its vocabulary without having learned them: training
    without them drove their rows, and with tied weights their embeddings, to "never"."""
    info = load_info(model)
    is_untrained = info and not info["prefix"] and info["line_prefix"] is None
    return method.inference.get("suppress", ()) if is_untrained else ()


def read_settings(name: str, settings: Mapping[str, Any]) -> tuple[Settings, Strict]:
    """The settings of a run, and those of its method, with the method's defaults.

    Raises:
        ConfigError: unknown method or setting, or a value that is not allowed.
    """
    method = load_method(name)
    resolved = parse(Settings, merge(method.TRAINING, settings), where=name)
    own = parse(method.Config, resolved.method, where=f"{name}: method")
    return resolved.model_copy(update={"method": own.model_dump(mode="json")}), own


def learnable(name: str, feedback: Sequence[Feedback], config: Strict | None = None) -> list[Feedback]:
    """The records that hold what a method needs, with its defaults or with these settings of its own.

    Raises:
        DataError: none does; says what is missing.
    """
    needs, kinds = feedback_of(name, config), count_kinds(feedback)
    if lack := missing(needs, kinds):
        able = [other for other in METHODS if not missing(feedback_of(other), kinds)]
        hint = f"this feedback can feed {', '.join(able)}" if able else "see `heedful data inspect`"
        if not missing(feedback_with_judge(name), kinds):
            hint = f"its prompts are enough with somebody to judge: --set method.judge=runs/reward_model; {hint}"
        where = str(feedback.path) if isinstance(feedback, FeedbackFile) else ""
        raise DataError(f"{name} cannot learn from this feedback: {lack}", where=where, hint=hint)
    return usable(feedback, needs | BESIDE.get(name, frozenset()))


def train(
    name: str,
    *,
    model: str | Path,
    feedback: Sequence[Feedback],
    out: str | Path,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    command: Sequence[str] | None = None,
    evaluate: Evaluate | None = None,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
    mirrors: Sequence[str] = (),
    export_dtype: str = "float32",
    cache: Path | None = None,
) -> Run:
    """Train a method and export the model to `out`/model.

    Args:
        name: a key of `heedful.METHODS`.
        model: folder or Hub name of a causal language model, or an encoder-decoder of the T5 family, in safetensors.
        feedback: records, as `load_feedback` returns them; their sha256 goes into the manifest, and a run is not
            resumed with others.
        out: the run folder.
        settings: as in a recipe: the fields of `Training`, and the method's own under "method".
        resume: continue the run in `out`; a finished one is returned as it is.
        evaluate, progress: see `heedful.loop.train`.
        mirrors: where metrics are shown as well: "tensorboard", "wandb".
        cache: a folder for what trainings from one model share: its log-probabilities.
    """
    resolved, _ = read_settings(name, settings or {})
    subject = {"method_name": name, "model": str(model), "feedback": fingerprint(feedback)}
    config = resolved.model_dump(mode="json")
    is_main = int(os.environ.get("RANK", 0)) == 0
    run = Run(out)  # of several processes one writes and holds the lock
    if is_main:
        run = Run.start(
            out, command=command or sys.argv, subject=subject, config=config, seed=resolved.seed, resume=resume
        )
    if run.is_done:
        return run
    is_new = is_main and not run.manifest["resumed"]
    with run.lock() if is_main else nullcontext(), _unless_refused(run, is_new):
        memory.forget_peak()
        prepared = prepare(name, model=model, feedback=feedback, settings=settings)
        if is_main:
            _require_same_start(run, str(model), prepared.start)
            _require_same_judges(run, prepared.method.judges)
        if is_main and isinstance(feedback, FeedbackFile) and feedback.sha256:
            run.record_data("feedback", feedback.path, rows=len(feedback))
        shown = subject | config
        run.mirrors += start_mirrors(mirrors if is_main else (), run.path, config=shown, step=_first_step(run))
        validation = _validation(prepared)
        _warn_where_nothing_chooses(prepared, validation)
        state = run_loop(
            prepared.method,
            prepared.policy,
            prepared.settings,
            run,
            validation=validation,
            evaluate=_both(_probes(run, prepared), evaluate) if is_main else evaluate,
            progress=progress,
            cache=cache,
        )
        if is_main:
            _finish(run, prepared, state, export_dtype, feedback)
        PartialState().wait_for_everyone()  # who returns finds the model
    return run


def fingerprint(feedback: Sequence[Feedback]) -> str:
    """The sha256 of records, however they were read."""
    digest = hashlib.sha256()
    for record in feedback:
        digest.update(to_json(as_json(record)).encode())
    return digest.hexdigest()


def _require_same_start(run: Run, model: str, start: Mapping[str, str]) -> None:
    """A run goes on with the model it began with, or not at all: its checkpoint may lack the weights that are not
    trained, and what it compares with, log-probabilities or answers of the start, would be another model's."""
    for key, found in start.items():
        seen = run.manifest.get(key, found)
        if seen != found:
            what = {"base_sha256": "base", "tokenizer_sha256": "tokenizer of the base"}[key]
            hint = "resume with the old one, or start in another folder"
            changed = f"the {what} has changed since the run began: sha256 {seen[:12]} -> {found[:12]}"
            raise RunError(changed, where=model, hint=hint)
    run.note(**start)


def _require_same_judges(run: Run, judges: Mapping[str, str]) -> None:
    """What a run learns from is one judge's: another trained into the same folder is another experiment."""
    seen = run.manifest.get("judges", judges)
    if changed := [name for name, version in judges.items() if seen.get(name) != version]:
        name = changed[0]
        what = f"the judge has changed since the run began: version {seen.get(name)} -> {judges[name]}"
        raise RunError(what, where=name, hint="resume with the old one, or start in another folder")
    if judges:
        run.note(judges=dict(judges))


@contextmanager
def _unless_refused(run: Run, is_new: bool) -> Iterator[None]:
    """Leave no folder behind where nothing was trained: the model or the feedback turned out not to do, or a first
    round of samples, of which a line is logged."""
    try:
        yield
    except Exception as error:
        logged = [line for line in run.metrics() if "loss" in line or not isinstance(error, DataError)]
        if is_new and not checkpoint.steps(run.path) and not logged:
            shutil.rmtree(run.path, ignore_errors=True)  # the lock is held, and some systems keep such files
        raise


def _first_step(run: Run) -> int:
    """The first step that will be logged: after a resume, the one after the newest checkpoint."""
    return max(checkpoint.steps(run.path), default=-1) + 1


def _probes(run: Run, prepared: Prepared) -> Evaluate:
    """Samples of held-out prompts, or of the first ones where none is held out; a model that judges writes none."""
    records = () if prepared.name in HELPING else prepared.held_out or prepared.feedback
    return Probes(run, prepared.text, records, prepared.method.inference, number=prepared.settings.probes)


def _both(first: Evaluate, second: Evaluate | None) -> Evaluate:
    if second is None:
        return first
    return lambda policy, step: {**first(policy, step), **second(policy, step)}


def _validation(prepared: Prepared) -> Sequence[Group]:
    """Groups of the held-out records; none where the method keeps none of them (filtering may)."""
    try:
        return prepared.method.targets(prepared.held_out) if prepared.held_out else ()
    except DataError:
        return ()


def _warn_where_nothing_chooses(prepared: Prepared, validation: Sequence[Group]) -> None:
    """Say that the last checkpoint will be kept, where a judge has nothing to judge, or no held-out record a row. A
    file too small for any to be held out is nothing to warn of."""
    name, measures = prepared.method.schedule.select[0], prepared.method.measures
    if prepared.held_out if measures else validation or not prepared.held_out:
        return
    why = "no record is held out" if measures else "no held-out record gives a row"
    warnings.warn(f"{why}: there is no {name}, and the last checkpoint will be kept", stacklevel=3)


def _finish(run: Run, prepared: Prepared, state: State, export_dtype: str, feedback: Sequence[Feedback]) -> None:
    context = {"max_length": prepared.text.max_length}
    info = {"method": prepared.name, **prepared.method.inference, **context, "dtype": export_dtype}
    sizes = _sizes(prepared.policy)  # while adapters are apart
    if prepared.adapters and prepared.settings.lora and prepared.settings.lora.export == "merged":
        prepared.adapters.merge()
        prepared = replace(prepared, adapters=None)
    export = _export_reward if is_reward(prepared.method) else _export_text
    state.frozen_tokens += export(run, prepared, info, feedback)
    run.finish(
        ledger=ledger(*sizes, state),
        metrics=state.best_metrics or state.metrics,
        selected_step=state.best_step or state.step,
        rows_lost=prepared.text.drops.counts,
    )


def _export_text(run: Run, prepared: Prepared, info: Mapping[str, Any], feedback: Sequence[Feedback]) -> int:
    what = prepared.policy.lm, prepared.text.tokenizer, run.model_path, info
    if prepared.adapters:
        export_adapter(prepared.adapters, *what, how=prepared.method.how)
    else:
        checkpoint.export(*what, how=prepared.method.how)
    return 0


def _export_reward(run: Run, prepared: Prepared, info: Mapping[str, Any], feedback: Sequence[Feedback]) -> int:
    """Also the mean reward over demonstrations, of which the feedback may hold more than what was compared."""
    found = centre(prepared.policy, prepared.text, feedback, prepared.feedback)
    what = prepared.policy, prepared.text.tokenizer, run.model_path, info, found
    if prepared.adapters:
        export_reward_adapter(prepared.adapters, *what)
    else:
        export_reward_model(*what)
    return found.num_tokens


def is_reward(method: Method) -> bool:
    """Whether what is trained is a reward, so that the model scores text and writes none."""
    return "reward" in method.heads


class Size(NamedTuple):
    """Parameters of a network, and how many of them are trained."""

    parameters: int
    trained: int

    @classmethod
    def of(cls, policy: Policy) -> "Size":
        """Weights that several layers share count once, those of a critic not: it is a network of its own."""
        apart = {id(weight) for weight in policy.critic.parameters()} if policy.critic else set()
        every = [weight for weight in policy.parameters() if id(weight) not in apart]
        return cls(sum(p.numel() for p in every), sum(p.numel() for p in every if p.requires_grad))

    def flops(self, train_tokens: int, frozen_tokens: int) -> float:
        """For a token 2 per parameter forward, 2 per parameter backward to reach what is trained, and 2 per trained
        parameter for its gradient: 6 where all are trained (Kaplan et al. 2020, section 2.1), about 4 with adapters.
        Only the first 2 where a token goes forward alone. Attention scores, prompts that were answered, and the models
        of scorers are left out."""
        return train_tokens * (4.0 * self.parameters + 2.0 * self.trained) + frozen_tokens * 2.0 * self.parameters


def _sizes(policy: Policy) -> tuple[Size, Size]:
    """Of a policy, and of its critic where it has one."""
    return Size.of(policy), Size.of(policy.critic) if policy.critic else Size(0, 0)


def ledger(size: Size, critic: Size, state: State) -> dict[str, Any]:
    """What a training cost; each network is charged the tokens that it read."""
    frozen = state.frozen_tokens - state.frozen_critic_tokens + state.sampled_tokens
    return {
        "train_tokens": state.tokens,
        "frozen_tokens": state.frozen_tokens,
        "sampled_tokens": state.sampled_tokens,
        "scorer_calls": state.scorer_calls,
        "flops": size.flops(state.tokens, frozen) + critic.flops(state.critic_tokens, state.frozen_critic_tokens),
        "seconds": state.seconds,
        "peak_memory": memory.peak(),
    }


def hold_out(
    feedback: Sequence[Feedback], share: float, at_most: int, *, seed: int
) -> tuple[list[Feedback], list[Feedback]]:
    """Split by prompt (documents by id): all records of a held-out prompt are held out, and all turns of what opens
    alike."""
    keys = [opening(record) if record.prompt != "" else record.id for record in feedback]
    prompts = sorted(set(keys), key=lambda prompt: stable_seed(seed, prompt))
    size = min(at_most, math.ceil(share * len(prompts)), len(prompts) - 1) if prompts else 0
    held = set(prompts[:size])
    return (
        [record for record, key in zip(feedback, keys) if key not in held],
        [record for record, key in zip(feedback, keys) if key in held],
    )


def require_context(policy: Policy, otherwise: int | None = None) -> int:
    """The longest sequence the model has positions for; `otherwise` where it does not say.

    Positions of an encoder-decoder are relative: any length will do, and what T5 was trained on is the default.

    Raises:
        RunError: neither says.
    """
    usual = T5_LENGTH if policy.lm.config.is_encoder_decoder else None
    found = context_length(policy.lm) or otherwise or usual
    if found is None:
        raise RunError("the model does not say how long its context is", hint="set max_length")
    return found


def dry_run(prepared: Prepared) -> dict[str, Any]:
    """What a run would do: rows, tokens, rows lost by reason; of one that learns from its own samples there is nothing
    to tell of its rows. Trains and writes nothing."""
    sizes = _sizes(prepared.policy)
    found: dict[str, Any] = {
        "method": prepared.name,
        "records": len(prepared.feedback),
        "validation_records": len(prepared.held_out),
    }
    if not isinstance(prepared.method.source, Sampler):
        groups = prepared.method.targets(prepared.feedback)
        found |= {
            "rows": len(groups),
            "pairs": sum(len(group.pairs) for group in groups),
            "responses": sum(len(group.branches) for group in groups),
            "tokens_per_epoch": sum(group.num_tokens for group in groups),
            "longest_row": max(group.num_tokens for group in groups),
        }
    return found | {
        "lost": dict(prepared.text.drops.counts),
        "parameters": sum(size.parameters for size in sizes),
        "trained_parameters": sum(size.trained for size in sizes),
        "budget": dict(prepared.settings.budget.given) or {"epochs": 1},
    }
