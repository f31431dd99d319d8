"""A dataset that is there from the start."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heedful.records import Feedback


@dataclass(frozen=True)
class Fixed:
    """The same records every round."""

    feedback: Sequence[Feedback]

    def collect(self, round_index: int, policy: Any = None) -> Sequence[Feedback]:
        """All records, in the order of the file; round and policy change nothing."""
        return self.feedback


def fixed(feedback: Sequence[Feedback]) -> Fixed:
    """The source of every offline method."""
    return Fixed(feedback)
