"""The report of experiments: Markdown, JSON and pictures of each, one HTML page of all."""

from .data import to_json
from .markdown import to_markdown
from .page import write_report

__all__ = ["to_json", "to_markdown", "write_report"]
