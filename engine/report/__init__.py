"""Reports: one self-contained offline page a run."""

from engine.report.page import write_report

__all__ = ["write_report"]
