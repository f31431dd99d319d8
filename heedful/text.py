"""Text to tokens: templates, masks and truncation are decided here, alone.

Prompt, response and each segment are tokenised apart and their ids joined, in training and at inference alike. A
prompt has a root, so that the first token of anything has a predecessor: BOS before it, or for an encoder-decoder EOS
and the decoder's start token behind it. What stands before that start token is the encoder's, what follows it the
decoder's; a document without a prompt is the answer to EOS alone. Text never turns into special tokens: a document that
contains "<s>" gets the characters, not the token. Only a chat template may.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.batch import Branch, Group, Pair, keep
from heedful.errors import ConfigError, NothingLeft
from heedful.records import Message

GOOD, BAD, PAD = "<|good|>", "<|bad|>", "<|pad|>"
SPELLED, END = "\ufdd0", "\ufdd1"  # noncharacters round a special token's name that stands in somebody's text
ANCHORS = ("\n", ".")  # texts to continue; the second for a text that merges with the first
LINE = re.compile(r"(?<=\n)(?=.)", re.DOTALL)  # str.splitlines splits at form feeds and more


@dataclass
class Drops:
    """Why rows did not become training rows, counted; shown by --dry-run and in the manifest."""

    counts: dict[str, int] = field(default_factory=dict)
    longest: tuple[int, str] = (0, "")  # tokens, before any cut, and name of the longest row

    def count(self, reason: str, number: int = 1) -> None:
        """Note so many more rows lost for `reason`."""
        if number:
            self.counts[reason] = self.counts.get(reason, 0) + number


class Text:
    """A tokenizer with heedful's rules round it.

    Args:
        tokenizer: any Hugging Face tokenizer.
        max_length: longest sequence in tokens, root and EOS included; prompt and response together, whoever reads them.
        start_id: the decoder's start token, of an encoder-decoder.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_length: int, start_id: int | None = None):
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.drops = Drops()
        self.bos_id = _first_id(tokenizer.bos_token_id, tokenizer.eos_token_id, what="BOS")
        self.eos_id = _first_id(tokenizer.eos_token_id, what="EOS")
        self.pad_id = tokenizer.pad_token_id
        self.start_id = start_id
        vocabulary = tokenizer.get_vocab()
        self.good_id = vocabulary.get(GOOD)
        self.bad_id = vocabulary.get(BAD)
        self._adds_space = self.decode([*self._ids("\n"), *self._ids("a")]) != "\na"

    def within(self, max_length: int) -> "Text":
        """The same for another length, with drops of its own."""
        return Text(self.tokenizer, max_length=max_length, start_id=self.start_id)

    @property
    def root(self) -> tuple[int, ...]:
        """What an empty prompt is."""
        return (self.bos_id,) if self.start_id is None else (self.eos_id, self.start_id)

    @property
    def joins(self) -> bool:
        """Whether a response goes on where its prompt ends; a decoder of its own begins a text."""
        return self.start_id is None

    @property
    def control_ids(self) -> tuple[int, ...]:
        """The good and the bad token's ids; nothing where the tokenizer has none."""
        return tuple(id for id in (self.good_id, self.bad_id) if id is not None)

    def add_control_tokens(self) -> None:
        """Give the tokenizer the good and bad control tokens; `policy.fit_vocabulary` makes their embeddings."""
        self.tokenizer.add_special_tokens(
            {"additional_special_tokens": [GOOD, BAD]}, replace_extra_special_tokens=False
        )
        vocabulary = self.tokenizer.get_vocab()
        self.good_id, self.bad_id = vocabulary[GOOD], vocabulary[BAD]

    def require_pad_token(self) -> None:
        """See that the tokenizer has a token that pads and does nothing else: padding is what a model that reads the
        last token of a row passes over, so EOS can not be it. `policy.fit_vocabulary` makes its embedding."""
        tokenizer = self.tokenizer
        taken = {None, self.bos_id, self.eos_id, tokenizer.unk_token_id}
        if tokenizer.pad_token_id in taken:
            own = {id: token.content for id, token in tokenizer.added_tokens_decoder.items() if token.special}
            named = [name for id, name in own.items() if id not in taken and "pad" in name.lower()]
            tokenizer.add_special_tokens({"pad_token": (*named, PAD)[0]})
        self.pad_id = tokenizer.pad_token_id

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        """Ids of plain text; nothing is added and nothing in it is special.

        Args:
            continues: the text follows other text. Many SentencePiece tokenizers begin every text with a space; here
                they do not, so that pieces join to what was cut.
        """
        for anchor in ANCHORS if continues and self._adds_space else ():
            before, both = self._ids(anchor), self._ids(anchor + text)
            if before and both[: len(before)] == before:  # T5's tokenizer reads nothing in a newline
                return both[len(before) :]
        return self._ids(text)

    def _ids(self, text: str, *, special: bool = False) -> list[int]:
        call = {"add_special_tokens": False, "split_special_tokens": not special, "verbose": False}
        return self.tokenizer(text, **call).input_ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out, spaces as they were."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def encode_prompt(self, prompt: str | Sequence[Message], *, line_prefix: int | None = None) -> list[int]:
        """The prompt with its root; a conversation is what the model's own template makes of it, up to the answer.

        Args:
            line_prefix: a token put before each line of the prompt, as conditional models with a token per line want.
        """
        if not isinstance(prompt, str):
            rendered = self._render(prompt)
            return rendered or [*self.root] if self.start_id is None else [*rendered, *self.root]
        if line_prefix is None:
            return self.rooted(self.encode(prompt))
        lines = LINE.split(prompt) if prompt else []
        ids = (self.encode(line, continues=number > 0) for number, line in enumerate(lines))
        return self.rooted(chain.from_iterable([line_prefix, *line] for line in ids))

    def rooted(self, ids: Iterable[int]) -> list[int]:
        """The ids of a prompt with its root."""
        return [*self.root, *ids] if self.start_id is None else [*ids, *self.root]

    def encode_response(self, *pieces: str, finished: bool = True, continues: bool = True) -> list[int]:
        """Ids of a response in pieces that are tokenised apart; it ends in exactly one EOS if it is finished.

        Args:
            continues: it answers a prompt; a document begins, and so does whatever a decoder of its own writes.
        """
        joins = continues and self.joins
        ids = [id for n, piece in enumerate(pieces) for id in self.encode(piece, continues=joins or n > 0)]
        return [*ids, *([self.eos_id] if finished else [])]

    def fit(
        self, id: str, prompt: Sequence[int], branches: Iterable[Branch], pairs: Iterable[Pair] = ()
    ) -> Group | None:
        """A group within `max_length`, or None, counted in `drops`, where no token of a response is left.

        A long response is cut at its end, never the prompt. A branch whose cut part trains nothing is dropped, and with
        it the pairs it is in; one without streams is read as a whole.
        """
        room, branches = self.max_length - len(prompt), list(branches)
        whole = len(prompt) + max((len(branch.tokens) for branch in branches), default=0)
        self.drops.longest = max(self.drops.longest, (whole, id))
        if room < 1:
            self.drops.count("prompt leaves no room for a response")
            return None
        kept = []
        for index, branch in enumerate(branches):
            if len(branch.tokens) > room:
                self.drops.count("response cut to the context (kept)")
                branches[index] = branch = _cut(branch, room)
            if any(value for stream in branch.streams.values() for value in stream) or not branch.streams:
                kept.append(index)
            else:
                self.drops.count("response without a trained token")
        return keep(Group(id, tuple(prompt), tuple(branches), tuple(pairs)), kept) if kept else None

    def chunks(self, id: str, branch: Branch, *, inside: Sequence[int | None] = ()) -> Iterable[Group]:
        """A document as rows of at most `max_length` tokens, each with its own root; no token is lost.

        Args:
            inside: for each token the control token of the segment that it continues, which a row that begins there
                begins with; None where a segment begins.
        """
        start = 0
        while start < len(branch.tokens):
            again = [id for id in inside[start : start + 1] if id is not None and self.max_length > len(self.root) + 1]
            stop = start + self.max_length - len(self.root) - len(again)
            tokens = [*again, *branch.tokens[start:stop]]
            streams = {
                name: [values[start] for _ in again] + [*values[start:stop]] for name, values in branch.streams.items()
            }
            if any(value for stream in streams.values() for value in stream):
                piece = Branch(tokens, streams, branch.fields)
                yield Group(f"{id}:{start}" if start else id, self.root, (piece,))
            start = stop

    def _render(self, messages: Sequence[Message]) -> list[int]:
        if self.tokenizer.chat_template is None:
            raise ConfigError(
                "the model has no chat template, but the prompt is a conversation",
                hint="use a model with a chat template, or render the conversation to text with --map",
            )
        special = sorted((t.content for t in self.tokenizer.added_tokens_decoder.values() if t.special), key=len)
        name = re.compile("|".join(map(re.escape, special[::-1])) or r"(?!)")
        spelled = f"{SPELLED}\\g<0>{END}"
        rows = [{"role": m.role, "content": name.sub(spelled, m.content)} for m in messages]
        options: dict[str, Any] = {"add_generation_prompt": True, "heedful": True}  # without what export.py added
        text = str(self.tokenizer.apply_chat_template(rows, tokenize=False, **options))
        parts = re.split(f"{SPELLED}(.*?){END}", text, flags=re.DOTALL)  # every second one was in somebody's text
        return [id for n, part in enumerate(parts) if part for id in self._ids(part, special=n % 2 == 0)]


def _first_id(*ids: int | None, what: str) -> int:
    for id in ids:
        if id is not None:
            return id
    raise ConfigError(f"the tokenizer has no {what} token", hint="set one in its tokenizer_config.json")


def _cut(branch: Branch, length: int) -> Branch:
    streams = {name: values[:length] for name, values in branch.streams.items()}
    return Branch(branch.tokens[:length], streams, branch.fields)


def require_groups(groups: Sequence[Group], text: Text) -> None:
    """Raise `NothingLeft` where nothing is left to train on, saying why the rows were lost."""
    if groups:
        return
    lost = "; ".join(f"{reason}: {n}" for reason, n in sorted(text.drops.counts.items())) or "no row matched"
    what = f"no training row is left ({lost})"
    tokens, name = text.drops.longest
    if tokens > text.max_length:
        raise NothingLeft(
            f"{what}: the longest has {tokens} tokens (record {name})",
            allowed=f"at most {text.max_length}, the smaller of the model's context and `max_length`",
            hint=f"--set max_length={tokens} where the context allows it, else shorter prompts or another model",
        )
    raise NothingLeft(what, hint="try `heedful data inspect` on the file")


def with_line_prefix(tokens: Sequence[int], text: Text, line_prefix: int | None) -> tuple[list[int], list[float]]:
    """Put a control token at the start and after each token that ends a line, as generation does.

    Returns:
        The tokens, and 1.0 for each that was there before.
    """
    if line_prefix is None:
        return list(tokens), [1.0] * len(tokens)
    result, own = [line_prefix], [0.0]
    for n, token in enumerate(tokens):
        result.append(token)
        own.append(1.0)
        if n + 1 < len(tokens) and text.decode([token]).endswith("\n"):
            result.append(line_prefix)
            own.append(0.0)
    return result, own
