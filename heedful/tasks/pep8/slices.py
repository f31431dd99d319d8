"""Cut the corpus into what the task ships: a scored corpus, demonstrations, prompts and held-out text.

Run: python -m heedful.tasks.pep8.slices --corpus build/pep8

    corpus.jsonl.gz          {"id", "text", "findings": [per physical line]}      the feedback split, styled
    demonstrations.jsonl.gz  {"id", "prompt", "response"}                         the feedback split, as a clean
    author writes
    prompts.jsonl.gz         {"id", "split", "clean", "prompt", "body"}           feedback, selection, test
    heldout.jsonl.gz         {"id", "style": "clean" | "dirty", "text", "findings"}  the test split
"""

import argparse
import ast
import io
import random
import tokenize
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from heedful.models import load_tokenizer
from heedful.scorers.pep8 import line_findings
from heedful.scorers.reading import cut_at_last_logical_line
from heedful.tasks.pep8.assets import ASSETS, write
from heedful.tasks.pep8.corpus import read_split
from heedful.text import Text

RESPONSE_TOKENS = 128
PROMPT_TOKENS = (40, 192)
PROMPT_LINES = 5
CORPUS_TOKENS = 900_000
HELDOUT_TOKENS = 480
NUM_PROMPTS = {"feedback": 1000, "selection": 128, "test": 256}
NUM_DEMONSTRATIONS = 1500
NUM_HELDOUT = 32  # of each style


def logical_line_ends(text: str) -> list[int]:
    """Row numbers, from 1, on which a logical line ends."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token.end[0] for token in tokens if token.type == tokenize.NEWLINE]


def blocks(text: str) -> Iterator[tuple[int, int, int, int]]:
    """Places a prompt may begin, as rows counted from 1: (header, its end, begin, last row of the surrounding block).

    A top-level statement stands alone (header and its end are equal); a method comes with the first line of its class.
    """
    tree = ast.parse(text)
    last = len(text.splitlines())
    for node in tree.body:
        yield _first_row(node), _first_row(node), _first_row(node), last
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.lineno > node.body[0].lineno:
                    yield node.lineno, _first_row(node.body[0]), _first_row(inner), node.end_lineno or last


def _first_row(node: ast.stmt) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])


def cut_prompts(text: str, tokens: Text, rng: random.Random, *, at_most: int) -> Iterator[tuple[str, str]]:
    """Prompts of a file, each with the response the file itself would give.

    A prompt starts at a top-level statement, or at a method under the first line of its class, so that it is read
    without its past; it ends with a logical line and shows at least five rows. Its body is the next 128 tokens, cut at
    their last complete logical line.
    """
    rows = text.splitlines(keepends=True)
    lengths = [len(tokens.encode(row)) for row in rows]
    ends = logical_line_ends(text)
    places = [place for place in blocks(text) if place[1] >= place[0]]
    rng.shuffle(places)
    used: set[int] = set()
    for header, header_end, start, last in places:
        head = rows[header - 1 : header_end - 1]
        room = PROMPT_TOKENS[1] - sum(lengths[header - 1 : header_end - 1])
        fitting = [
            end
            for end in ends
            if start <= end < last
            and end - start + 1 >= PROMPT_LINES
            and PROMPT_TOKENS[0] <= sum(lengths[start - 1 : end]) <= room
            and sum(lengths[end:last]) >= RESPONSE_TOKENS
        ]
        if not fitting:
            continue
        end = rng.choice(fitting)
        if used.intersection(range(start, end + 1)):
            continue
        used.update(range(start, end + 1))
        prompt = "".join(head + rows[start - 1 : end])
        following = tokens.decode(tokens.encode("".join(rows[end:last]))[:RESPONSE_TOKENS])
        body = cut_at_last_logical_line(prompt, following)
        if body:
            yield prompt, body
            at_most -= 1
        if at_most == 0:
            return


def prompts_of(corpus: Path, split: str, tokens: Text, *, number: int, text: str = "text") -> list[dict]:
    """Up to `number` prompts of a split, spread evenly over its files; `text` is "text" or "clean_text"."""
    files = list(read_split(corpus, split))
    share = max(1, -(-number * 4 // len(files)))
    found = []
    for row in files:
        rng = random.Random(f"prompts/{row['id']}")
        for n, (prompt, body) in enumerate(cut_prompts(row[text], tokens, rng, at_most=share)):
            found.append({"id": f"{row['id']}:{n}", "clean": row["clean"], "prompt": prompt, "body": body, "n": n})
    found.sort(key=lambda entry: (entry["n"], entry["id"]))
    kept = sorted(found[:number], key=lambda entry: entry["id"])
    return [{key: entry[key] for key in ("id", "clean", "prompt", "body")} for entry in kept]


def scored_corpus(corpus: Path, tokens: Text) -> Iterator[dict]:
    """Files of the feedback split with findings per line, up to the tokens that ship."""
    files = list(read_split(corpus, "feedback"))
    random.Random("corpus").shuffle(files)
    total = 0
    for row in files:
        total += len(tokens.encode(row["text"]))
        if total > CORPUS_TOKENS:
            return
        yield {"id": row["id"], "text": row["text"], "findings": line_findings(row["text"])}


def held_out(corpus: Path, tokens: Text) -> Iterator[dict]:
    """The test split's first statements, file by file, as its clean and its styled text."""
    for style, key in (("clean", "clean_text"), ("dirty", "text")):
        pieces: list[dict[str, Any]] = [
            {"id": f"{style}:{row['id']}:{n}", "style": style, "text": piece, "n": n}
            for row in read_split(corpus, "test")
            if style == "clean" or not row["clean"]
            for n, piece in enumerate(_pieces(row[key], tokens))
        ]
        pieces.sort(key=lambda piece: (piece["n"], piece["id"]))
        for piece in pieces[:NUM_HELDOUT]:
            yield {key: piece[key] for key in ("id", "style", "text")} | {"findings": line_findings(piece["text"])}


def _pieces(text: str, tokens: Text) -> Iterator[str]:
    rows = text.splitlines(keepends=True)
    starts = [*map(_first_row, ast.parse(text).body), len(rows) + 1]
    begin = starts[0]
    for start, following in pairwise(starts):
        if len(tokens.encode("".join(rows[begin - 1 : following - 1]))) > HELDOUT_TOKENS:
            if start > begin:
                yield "".join(rows[begin - 1 : start - 1])
            begin = start if start > begin else following


def build(corpus: Path, out: Path) -> dict[str, int]:
    """Write all slices; returns how many rows each has."""
    tokens = Text(load_tokenizer(ASSETS / "tokenizer"), max_length=1024)
    demonstrations = prompts_of(corpus, "feedback", tokens, number=NUM_DEMONSTRATIONS, text="clean_text")
    parts: dict[str, Sequence[dict]] = {
        "corpus": list(scored_corpus(corpus, tokens)),
        "demonstrations": [
            {"id": row["id"], "prompt": row["prompt"], "response": row["body"]} for row in demonstrations
        ],
        "prompts": [
            {"split": split} | row
            for split, number in NUM_PROMPTS.items()
            for row in prompts_of(corpus, split, tokens, number=number)
        ],
        "heldout": list(held_out(corpus, tokens)),
    }
    return {name: write(name, rows, out) for name, rows in parts.items()}


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ASSETS)
    arguments = parser.parse_args()
    print(build(arguments.corpus, arguments.out))


if __name__ == "__main__":
    main()
