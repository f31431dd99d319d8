"""Plain text that is mixed into the steps of a method: the documents of its feedback."""

from collections.abc import Sequence
from functools import cached_property
from typing import overload

from heedful.batch import Group
from heedful.errors import DataError
from heedful.records import Feedback, strict_pairs
from heedful.targets.relabel import demonstrations, everything
from heedful.text import Text


def is_document(record: Feedback) -> bool:
    """Text for the pretraining term: no prompt, and nothing that prefers one response."""
    return record.prompt == "" and not strict_pairs(record)


def documents_of(feedback: Sequence[Feedback], setting: str, value: float) -> list[Feedback]:
    """The documents that a setting of a method asks for.

    Raises:
        DataError: there is none.
    """
    documents = [record for record in feedback if is_document(record)]
    if not documents:
        raise DataError(
            f"{setting} is {value:g}, and the feedback holds no document",
            hint='add records with an empty "prompt"',
        )
    return documents


def demonstrations_and_documents(feedback: Sequence[Feedback], *, text: Text, share: float) -> list[Group]:
    """The rows of SFT, and as many of documents, evenly spaced, as make `share` of all; fewer where there are not so
    many."""
    documents = [record for record in feedback if is_document(record)]
    rows = demonstrations([record for record in feedback if not is_document(record)], text=text)
    plain = everything(documents, text=text) if documents else []
    count = min(len(plain), round(len(rows) * share / (1 - share)))
    return [*rows, *(plain[n * len(plain) // count] for n in range(count))]


class Documents(Sequence[Group]):
    """The rows of the pretraining term, made when they are first read: only then is the context's length known."""

    def __init__(self, feedback: Sequence[Feedback], text: Text):
        self.feedback, self.text = feedback, text

    @cached_property
    def rows(self) -> list[Group]:
        """Every document, all of it trained."""
        return everything(self.feedback, text=self.text)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> list[Group]: ...
    def __getitem__(self, index):
        return self.rows[index]
