"""What the model says while it learns: the same few prompts, answered at every evaluation, kept in samples.jsonl."""

from collections.abc import Mapping, Sequence
from typing import Any

from heedful.policy import Policy
from heedful.records import Feedback, prompt_text
from heedful.runs import Run
from heedful.sampling import Sampling, generate
from heedful.text import Text

MAX_TOKENS = 64
DOCUMENT_START = 200  # characters of a document that stand in for a prompt, up to a line's end


class Probes:
    """Callable with the policy and the step; the draws depend on the prompt alone, so that two steps can be compared.

    Args:
        records: the prompts; of a document its beginning.
        inference: a method's `inference`: prefix, line_prefix, suppress.
    """

    def __init__(self, run: Run, text: Text, records: Sequence[Feedback], inference: Mapping[str, Any], *, number: int):
        self.run, self.text = run, text
        self.line_prefix = inference.get("line_prefix")
        self.banned = tuple(inference.get("suppress", text.control_ids))
        room = text.max_length - MAX_TOKENS * (1 if self.line_prefix is None else 2) - 1
        asked = [(_prompt(record), record) for record in records]
        encoded = [(self._encode(prompt, inference), record) for prompt, record in asked]
        self.asked = [(ids, record) for ids, record in encoded if len(ids) <= room][:number]

    def __call__(self, policy: Policy, step: int) -> dict[str, float]:
        """Answer, log, and give the mean length in tokens as a metric."""
        if not self.asked:
            return {}
        settings = Sampling(max_tokens=MAX_TOKENS, banned=self.banned, line_prefix=self.line_prefix)
        drawn = generate(policy.lm, self.text, [ids for ids, _ in self.asked], settings)
        rows = [
            {"step": step, "prompt_id": record.id, "prompt": prompt_text(_prompt(record)), "response": sample.text}
            for (_, record), (sample,) in zip(self.asked, drawn)
        ]
        self.run.log_samples(rows)
        return {"probe_length": sum(len(sample.tokens) for (sample,) in drawn) / len(drawn)}

    def _encode(self, prompt, inference: Mapping[str, Any]) -> list[int]:
        ids = self.text.encode_prompt(prompt, line_prefix=self.line_prefix)
        return [*ids, *inference.get("prefix", ())]


def _prompt(record: Feedback):
    if record.prompt != "" or not record.responses:
        return record.prompt
    start = record.responses[0].text[:DOCUMENT_START]
    return start[: start.rfind("\n") + 1] or start
