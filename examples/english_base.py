"""Pretrain a small English model to learn from real feedback on one machine: 5.2M parameters, books and transcripts.

Books, speeches and both sides of dialogues, posts with their human summaries, questions with passages and corrected
answers. Of feedback only the records are read that `heedful data split` (seed 0) puts into `train`, so that no model
is ever asked to judge what its base has read.

Run: python examples/english_base.py --data DATA --out runs/english       (an hour and a half on one core; goes on where
it was stopped). DATA holds classic_books, us_speeches, hh_rlhf_helpful, hh_rlhf_harmless, tldr_gpt_judged and
qa_feedback_finegrained, each a folder with one .jsonl.gz.
"""

import argparse
import gzip
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from heedful import load_feedback
from heedful.data.split import split_feedback
from heedful.records import Feedback, Response
from heedful.training import train

SPECIALS = ["<|pad|>", "<|bos|>", "<|eos|>", "<|good|>", "<|bad|>"]
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
TRAINING = {
    "optim": {"lr": 2e-3, "betas": [0.9, 0.95], "warmup": 0.02, "decay": "cosine", "final": 0.05},
    "batch_size": 16,
    "max_length": 512,
    "max_validation": 24,
    "eval_every": 200,
    "save_every": 50,
    "budget": {"tokens": 7_000_000},
}
BOOKS = ("classic_books", "us_speeches")
FEEDBACK = ("hh_rlhf_helpful", "hh_rlhf_harmless", "tldr_gpt_judged", "qa_feedback_finegrained")


def documents(data: Path) -> Iterator[Feedback]:
    """All text there is, as documents without a prompt."""
    for name in BOOKS:
        for number, text in enumerate(_texts(only_file(data / name))):
            yield Feedback(prompt="", responses=(Response(text.replace("\r\n", "\n")),), id=f"{name}:{number}")
    for name in FEEDBACK:
        records = load_feedback(only_file(data / name))
        for record in split_feedback(records, by="prompt").parts["train"]:
            for number, response in enumerate(_read(record)):
                joined = f"{record.prompt}{'' if response.startswith((' ', chr(10))) else ' '}{response}"
                yield Feedback(prompt="", responses=(Response(joined),), id=f"{name}:{record.id}#{number}")


def _read(record: Feedback) -> list[str]:
    """The demonstrations of a record, or both sides of a comparison, so that neither is likelier for being read."""
    shown = [response.text for response in record.responses if response.demonstration]
    return shown or [response.text for response in record.responses]


def _texts(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (json.loads(line)["text"] for line in file)


def only_file(folder: Path) -> Path:
    """The one data file in a folder."""
    (path,) = folder.glob("*.jsonl.gz")
    return path


def learn_tokenizer(texts: Iterable[str], *, vocabulary: int = 8192) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIALS[1]} $A", special_tokens=[(SPECIALS[1], 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIALS[0],
        bos_token=SPECIALS[1],
        eos_token=SPECIALS[2],
        additional_special_tokens=SPECIALS[3:],
        clean_up_tokenization_spaces=False,
    )


def initialise(folder: Path, texts: Iterable[str]) -> Path:
    """A random model with a tokenizer of its own, made once."""
    if not (folder / "tokenizer_config.json").exists():  # written last
        tokenizer = learn_tokenizer(texts)
        set_seed(0)
        special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SHAPE, **special)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    """The command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=TRAINING["budget"]["tokens"])
    arguments = parser.parse_args()
    feedback = list(documents(arguments.data))
    model = initialise(arguments.out / "init", (record.responses[0].text for record in feedback))
    started = time.monotonic()

    def show(event) -> None:
        if event["step"] % 10 == 0:
            print(
                f"{time.monotonic() - started:7.0f}s step {event['step']} loss {event['loss']:.4f} "
                f"{event['tokens_per_second']:.0f} tokens/s, {event['seconds_left']:.0f}s left, "
                f"eval {event['metrics'].get('eval_loss', float('nan')):.4f}",
                flush=True,
            )

    settings = TRAINING | {"budget": {"tokens": arguments.tokens}}
    run = train(
        "mle",
        model=model,
        feedback=feedback,
        out=arguments.out / "mle",
        settings=settings,
        resume=True,
        progress=show,
        export_dtype="bfloat16",
    )
    print(run.model_path)


if __name__ == "__main__":
    main()
