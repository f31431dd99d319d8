"""Targets of ILF: the text that a refiner or a critic is to write, and the refinement that stands in for a response."""

from collections.abc import Sequence
from dataclasses import replace

from heedful.batch import Branch, Group
from heedful.editing import CHOSEN, Form
from heedful.errors import NothingLeft
from heedful.records import Feedback, Response
from heedful.targets.relabel import everything
from heedful.text import Text, require_groups


def written(feedback: Sequence[Feedback], *, text: Text, form: Form) -> list[Group]:
    """A refiner's rows, or a critic's: a question about a response, and behind it what people wrote, with EOS: the
    answer has an end whether or not the response was cut. Stream: `mask`."""
    groups = []
    for record in feedback:
        for index, response in enumerate(record.responses):
            answer = getattr(response, form.writes)
            if not answer:
                continue
            fields, id = form.fields(record, response), f"{record.id}#{index}"
            question = form.question(text, fields, id=id)
            tokens = text.encode_response(answer)
            group = text.fit(id, question, [Branch(tokens, {"mask": [1.0] * len(tokens)})]) if question else None
            groups += [group] if group else []
    require_groups(groups, text)
    return groups


def chosen_refinements(records: Sequence[Feedback], *, text: Text) -> list[Group]:
    """ILF's rows: the prompt, masked, and the refinement that was chosen; neither the critique nor the response that it
    is of.

    Raises:
        NothingLeft: none was chosen; says what became of the responses.
    """
    kept = [record for record in records if CHOSEN in record.metadata]
    if not kept:
        criticised = sum(record.responses[0].critique is not None for record in records if record.responses)
        refined = sum(len(record.responses) > 1 for record in records)
        raise NothingLeft(
            f"no refinement is left to learn from: of {len(records)} responses {criticised} were criticised, {refined} "
            "refined, and no refinement was chosen",
            hint="more refinements, only_better=false, or a refiner trained longer"
            if refined
            else "prompt, response and critique have to leave room for method.max_tokens in the refiner's context",
        )
    rows = [replace(record, responses=(_plain(record.responses[record.metadata[CHOSEN]]),)) for record in kept]
    return everything(rows, text=text)


def _plain(response: Response) -> Response:
    return Response(response.text, truncated=response.truncated)
