"""Feedback files: read any known shape into records, look into them, split them."""

from heedful.data.inspect import describe_feedback, render
from heedful.data.kinds import KINDS, count_kinds, kinds_of, missing, usable
from heedful.data.lines import write_feedback
from heedful.data.load import FeedbackFile, load_feedback
from heedful.data.split import Split, split_feedback

__all__ = [
    "KINDS",
    "FeedbackFile",
    "Split",
    "count_kinds",
    "describe_feedback",
    "kinds_of",
    "load_feedback",
    "missing",
    "render",
    "split_feedback",
    "usable",
    "write_feedback",
]
