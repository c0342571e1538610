"""The report of experiments: Markdown, JSON and figures of each, one HTML page of all."""

from .files import to_json, to_markdown, write_report

__all__ = ["to_json", "to_markdown", "write_report"]
