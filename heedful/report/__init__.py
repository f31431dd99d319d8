"""From a run folder to one self-contained page: no network, no script, every model text escaped."""

from heedful.report.page import build_report

__all__ = ["build_report"]
