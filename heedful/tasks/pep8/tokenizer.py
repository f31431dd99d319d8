"""The tokenizer of the pep8 task: byte-level BPE over styled code in which no token crosses a line.

A newline is always a token of its own, spaces at the start of a line are one token or a few, and a word may carry the
one space before it. So text cut after a newline and encoded in two halves has the same tokens as encoded whole.

Ids 0-12 are reserved and never come from text, whatever it spells: `split_special_tokens` is on in the saved folder, so
`tokenizer("<|good|>")` gives ordinary tokens. Control tokens are put in by id. `tokenizer(text)` begins with BOS;
pass `add_special_tokens=False` where BOS is added by the caller.

Run: python -m heedful.tasks.pep8.tokenizer build/pep8 --out heedful/assets/pep8/tokenizer
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from heedful.tasks.pep8.corpus import read_split

VOCABULARY = 4096
PAD, BOS, EOS, GOOD, BAD = range(5)
SPECIALS = ["<|pad|>", "<|bos|>", "<|eos|>", "<|good|>", "<|bad|>", *(f"<|spare_{i}|>" for i in range(5, 13))]

# A newline; the indent of a line; a word with the space, dot or underscores before it; up to three digits; signs;
# spaces, the last of them left to the word that follows. `^` holds at the start of the text and of every line.
PIECES = r"\n|^ +| ?[._]*\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+| +(?! )(?=\n|$)| +(?= )|[^\S\n]+"


def train(texts: Iterable[str], *, vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Learn the merges from `texts`; the same texts in the same order give the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
        ),
    )
    return finished(tokenizer)


def finished(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """It with BOS in front and the reserved ids by their names, as transformers reads it."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIALS[BOS]} $A", special_tokens=[(SPECIALS[BOS], BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIALS[PAD],
        bos_token=SPECIALS[BOS],
        eos_token=SPECIALS[EOS],
        additional_special_tokens=SPECIALS[GOOD:],
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    train(row["text"] for row in read_split(arguments.corpus, "base")).save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
