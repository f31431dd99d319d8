"""What a model still knows: bits per byte of text it has not seen, and how often it names the right thing."""

import io
import keyword
import tokenize
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.batch import Branch, Group
from heedful.evals.likelihood import read_tokens
from heedful.policy import Policy
from heedful.scorers.reading import split_rows
from heedful.text import Text

NATS_PER_BIT = 0.6931471805599453


def likelihood_of_documents(
    policy: Policy, text: Text, documents: Sequence[Mapping[str, Any]], line_prefix: int | None, banned: Sequence[int]
) -> list[tuple[float, int, int, int]]:
    """(bits, bytes, NAME tokens hit, NAME tokens) of each document; EOS is not read.

    A model with a token per line (`line_prefix` given) sees each line's own: good where the document has no finding
    there, bad elsewhere. Those positions are not read, and no probability may go to `banned`.
    """
    groups = [_group(text, document, line_prefix is not None) for document in documents]
    readings = read_tokens(policy, groups, banned=banned)
    found = []
    for document, reading in zip(documents, readings, strict=True):
        is_name = name_tokens(text, document["text"])
        hits = sum(hit for hit, named in zip(reading.hit.tolist(), is_name, strict=True) if named)
        bits = -reading.logp.double().sum().item() / NATS_PER_BIT
        found.append((bits, len(document["text"].encode()), hits, sum(is_name)))
    return found


def _group(text: Text, document: Mapping[str, Any], marked: bool) -> Group:
    tokens: list[int] = []
    own: list[float] = []
    for line, count in zip(split_rows(document["text"]), document["findings"], strict=True):
        ids = text.encode(line)
        control = [text.control_ids[1 if count else 0]] if marked else []
        tokens += [*control, *ids]
        own += [0.0] * len(control) + [1.0] * len(ids)
    return Group(document["id"], text.root, (Branch(tokens, {"mask": own}),))


def name_tokens(text: Text, document: str) -> list[bool]:
    """For each token of a Python text: does it hold a part of an identifier (keywords are none)?"""
    starts = [0]
    for line in split_rows(document):
        starts.append(starts[-1] + len(line))
    inside = [False] * len(document)
    for token in tokenize.generate_tokens(io.StringIO(document).readline):
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            first = starts[token.start[0] - 1] + token.start[1]
            inside[first : first + len(token.string)] = [True] * len(token.string)
    flags = []
    for line, start in zip(split_rows(document), starts):
        offsets = text.tokenizer(
            line, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        ).offset_mapping
        flags += [any(inside[start + a : start + b]) for a, b in offsets]
    return flags
