"""The tokenizer of the reasoning task: a word a token, any other text byte by byte.

The words are those of the questions, with the space before them, and of the instructions that methods put round a
question. Of several ways to write a text it takes the one with the fewest tokens. It spells any text and loses none of
it; ids 0-12 are reserved as in the pep8 task's tokenizer.

Run: python -m heedful.tasks.reasoning.tokenizer --out heedful/assets/reasoning/tokenizer
"""

import argparse
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from heedful.tasks.pep8.tokenizer import PAD, SPECIALS, finished
from heedful.tasks.reasoning.lessons import drills, lessons, right

# The mark of an option; a word, a number, or a sign with the space before it; white space.
PIECES = r"\n-|\nOptions:|\nAnswer:| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]|\s"
INSTRUCTIONS = (  # text that methods add: one token a word, which the base has not read
    "Generate a correct answer to this problem. Generate a wrong answer to this problem. A good answer is: A bad "
    "answer is: The answer is correct. That is wrong, incorrect, right. True False Yes No Question: Q: A: better worse "
    "Instruction: Response: Feedback: the following response judged good bad helpful not"
)
MOST_NUMBER = 120
SAMPLE, DRILLS = 3000, 200  # questions and drills of each task that words are taken from


def build(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each piece of the texts and each byte; the same set of pieces gives the same."""
    pieces = {piece for text in texts for piece in re.findall(PIECES, text)}
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = sorted("".join(part for part, _ in byte_level.pre_tokenize_str(piece)) for piece in pieces)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = list(dict.fromkeys([*SPECIALS, *alphabet, *words]))
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in vocabulary], unk_id=PAD, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PIECES), "isolated"), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return finished(tokenizer)


def texts() -> Iterator[str]:
    """What the words are taken from: questions with their answers, numbers, instructions."""
    yield INSTRUCTIONS
    yield from (f" {word}" for word in INSTRUCTIONS.split())
    yield from (f" {number} {number:02}/{number:02}" for number in range(MOST_NUMBER))
    for record in [*lessons(SAMPLE, answers=right, seed="tokenizer"), *drills(DRILLS, seed="tokenizer")]:
        yield f"{record.prompt}{record.responses[0].text}"


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    tokenizer = build(texts())
    tokenizer.save_pretrained(parser.parse_args().out)
    print(f"{len(tokenizer)} tokens")


if __name__ == "__main__":
    main()
