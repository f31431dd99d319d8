"""Plain text beside demonstrations: how much, and what is trained of it."""

import pytest
from tiny_text import make_text

from heedful.errors import DataError
from heedful.records import Feedback, Response
from heedful.targets.pretraining import demonstrations_and_documents, documents_of

SHOWN = [Feedback(f"q{n}", (Response("ab", demonstration=True),), id=f"r{n}") for n in range(18)]
PLAIN = [Feedback("", (Response("cdcd"),), id=f"d{n}") for n in range(30)]


def rows(feedback, share=0.1):
    return demonstrations_and_documents(feedback, text=make_text(), share=share)


def documents(groups):
    return [group.id for group in groups if group.id.startswith("d")]


def test_documents_make_their_share_of_the_rows():
    groups = rows([*SHOWN, *PLAIN])
    assert (len(groups), len(documents(groups))) == (20, 2)


def test_where_there_are_fewer_all_are_read():
    assert len(documents(rows([*SHOWN, *PLAIN[:1]]))) == 1
    assert len(rows(SHOWN)) == 18


def test_they_are_evenly_spaced():
    assert documents(rows([*SHOWN, *PLAIN])) == ["d0", "d15"]


def test_of_a_document_every_token_is_trained_and_of_a_demonstration_the_response():
    text = make_text()
    shown, *_, plain = rows([*SHOWN, *PLAIN])
    assert list(shown.branches[0].tokens) == text.encode_response("ab")
    assert list(plain.branches[0].tokens) == text.encode_response("cdcd", continues=False)
    assert all(set(group.branches[0].streams["mask"]) == {1.0} for group in (shown, plain))


def test_a_share_of_no_documents_is_an_error():
    with pytest.raises(DataError, match=r"document_share is 0\.1, and the feedback holds no document"):
        documents_of(SHOWN, "document_share", 0.1)
