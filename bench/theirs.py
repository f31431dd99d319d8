"""TRL's trainers on the rows of a `Work`, their own loops a step at a time."""

import tempfile
import threading
from itertools import combinations

import torch
from common import CONTEXT, LR, PAD, Work, language_model, word_tokenizer
from datasets import Dataset
from transformers import LlamaForSequenceClassification, PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer

KINDS = {
    "sft": (SFTTrainer, SFTConfig),
    "reward_model": (RewardTrainer, RewardConfig),
    "dpo": (DPOTrainer, DPOConfig),
    "slic_hf": (CPOTrainer, CPOConfig),
}
CACHED = "precompute_ref_log_probs"
OWN = {
    "dpo": {"beta": 0.1},
    "slic_hf": {"loss_type": "hinge", "beta": 1.0, "cpo_alpha": 0.1},
}


class Theirs(TrainerCallback):
    """A trainer's `train()` in a thread of its own, which waits after each optimizer step until it is called.

    A step begins where the one before ended, so that reading and padding rows, logging and callbacks are in it.

    Args:
        micro: rows a forward; fewer than the step's are accumulated, which pads less.
        is_sorted: the rows of a step come longest first, as `train_sampling_strategy="group_by_length"` brings them.
        settings: of the trainer's configuration.
    """

    def __init__(self, work: Work, head=None, *, micro: int | None = None, is_sorted: bool = False, **settings):
        trainer, config = KINDS[work.method]
        rows = [row for step in range(work.steps) for row in self._rows(work, step, is_sorted=is_sorted)]
        per_step = len(rows) // work.steps
        assert per_step % (micro or per_step) == 0, f"{per_step} rows a step are no multiple of {micro}"
        self.folder = tempfile.TemporaryDirectory()
        self.trainer = trainer(
            model=_model(work, head),
            args=config(
                output_dir=self.folder.name,
                max_steps=work.steps,
                per_device_train_batch_size=micro or per_step,
                gradient_accumulation_steps=per_step // (micro or per_step),
                train_sampling_strategy="sequential",
                learning_rate=LR,
                lr_scheduler_type="constant",
                weight_decay=0.0,
                bf16=work.dtype == "bf16",
                max_length=CONTEXT,
                use_cpu=True,
                dataloader_pin_memory=False,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                **OWN.get(work.method, {}),
                **settings,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=word_tokenizer(work.vocabulary),
            callbacks=[self],
            **({"ref_model": _model(work, None)} if work.method == "dpo" and not settings.get(CACHED) else {}),
        )
        self.trainer.remove_callback(PrinterCallback)  # the line of JSON comes last
        self._keep_losses()
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.loss, self.error = 0.0, None
        threading.Thread(target=self._train, daemon=True).start()

    def step(self) -> float:
        """One optimizer step; the loss before it."""
        self.loss = 0.0
        self.go.release()
        self.done.acquire()
        if self.error:
            raise self.error
        return float(self.loss)

    def on_step_end(self, args, state, control, **kwargs):
        self.done.release()
        if state.global_step < state.max_steps:
            self.go.acquire()

    def _train(self) -> None:
        self.go.acquire()
        try:
            self.trainer.train()
        except BaseException as error:
            self.error = error
            self.done.release()

    def _keep_losses(self) -> None:
        training_step = self.trainer.training_step

        def kept(*args, **kwargs):
            loss = training_step(*args, **kwargs)
            self.loss = self.loss + loss
            return loss

        self.trainer.training_step = kept

    @staticmethod
    def _rows(work: Work, step: int, *, is_sorted: bool) -> list[dict]:
        """A ranking becomes all its pairs, the only form these trainers read."""
        rows = work.rows(work.feedback, step)
        if is_sorted:
            rows.sort(key=lambda row: -len(row.prompt.split()) - max(len(r.text.split()) for r in row.responses))
        if work.method == "sft":
            return [{"prompt": row.prompt, "completion": row.responses[0].text} for row in rows]
        return [
            {"prompt": row.prompt, "chosen": better.text, "rejected": worse.text}
            for row in rows
            for better, worse in combinations(row.responses, 2)
        ]


def _model(work: Work, head: torch.Tensor | None):
    lm = language_model(work.size, work.vocabulary)
    if work.method != "reward_model":
        return lm
    lm.config.num_labels = 1
    lm.config.pad_token_id = PAD
    model = LlamaForSequenceClassification(lm.config)
    model.model.load_state_dict(lm.model.state_dict())
    with torch.no_grad():
        model.score.weight.copy_(head)
    return model
