"""Text small enough to read: a token per character, and rows of tokens and streams written as tables."""

import string
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast, T5Tokenizer

from heedful.batch import Group
from heedful.records import Feedback, Response, Segment
from heedful.text import BAD, GOOD, Text

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
ALPHABET = string.digits + string.ascii_letters + string.punctuation + " \n"
NAMES = {PAD: "PAD", BOS: "BOS", EOS: "EOS", GOOD: "+", BAD: "-", " ": "_", "\n": "\\n"}


def letters(*, merges: Iterable[tuple[str, str]] = (), **special: str | None) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per character and those of `merges`; special tokens can be renamed, or None."""
    merges = list(merges)
    names = [PAD, BOS, EOS, *ALPHABET, *("".join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE(vocab={name: id for id, name in enumerate(names)}, merges=merges))
    backend.decoder = decoders.Fuse()
    special = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS} | special
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{k: v for k, v in special.items() if v is not None})


def like_llama2() -> PreTrainedTokenizerFast:
    """SentencePiece in the old way: every text begins with a space."""
    names = ["<unk>", "<s>", "</s>", *string.ascii_letters, "▁", ".", "\n", "▁a", "\n\n"]
    backend = Tokenizer(models.BPE({n: i for i, n in enumerate(names)}, [("▁", "a"), ("\n", "\n")]))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


def like_t5() -> PreTrainedTokenizerFast:
    """T5's own class: a space before every text, EOS behind it, nothing read in a newline."""
    pieces = ["▁", *string.ascii_letters, "."]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -2.0) for piece in pieces), ("▁the", -4.0)]
    return T5Tokenizer(vocab=vocab, extra_ids=0)


def make_text(*, max_length: int = 64, control: bool = False, start_id: int | None = None, **options) -> Text:
    """`letters` with heedful's rules round it, and with control tokens if asked."""
    text = Text(letters(**options), max_length=max_length, start_id=start_id)
    if control:
        text.add_control_tokens()
    return text


def scored(*segments: tuple[str, float], prompt: str = "", id: str = "a", truncated: bool = False) -> Feedback:
    """A record with one response of scored segments."""
    parts = tuple(Segment(piece, float(score)) for piece, score in segments)
    response = Response("".join(part.text for part in parts), segments=parts, truncated=truncated)
    return Feedback(prompt=prompt, responses=(response,), id=id)


def rows_of(groups: Sequence[Group], text: Text) -> list[list[list[str]]]:
    """One block a response: its tokens with the prompt before them, then each stream, "." in the prompt."""
    blocks = []
    for group in groups:
        for branch in group.branches:
            tokens = text.tokenizer.convert_ids_to_tokens([*group.prompt, *branch.tokens])
            block = [["token", *(NAMES.get(token, token) for token in tokens)]]
            for name in sorted(branch.streams):
                block.append([name, *"." * len(group.prompt), *(f"{x:.4g}" for x in branch.streams[name])])
            blocks.append(block)
    return blocks


def check_rows(groups: Sequence[Group], text: Text, expected: str) -> None:
    """Compare groups with a table; where they differ, show both with their columns aligned."""
    found = rows_of(groups, text)
    wanted = [[line.split() for line in block.splitlines()] for block in _blocks(expected)]
    assert found == wanted, f"\nfound\n\n{_aligned(found)}\n\nexpected\n\n{_aligned(wanted)}\n"


def _blocks(table: str) -> list[str]:
    lines = "\n".join(line.strip() for line in table.strip().splitlines())
    return lines.split("\n\n")


def _aligned(blocks: list[list[list[str]]]) -> str:
    return "\n\n".join(_aligned_block(block) for block in blocks)


def _aligned_block(block: list[list[str]]) -> str:
    count = max(map(len, block))
    padded = [[*row, *[""] * (count - len(row))] for row in block]
    widths = [max(len(row[column]) for row in padded) for column in range(count)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in padded)
