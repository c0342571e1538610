"""The report of experiments: Markdown, JSON and figures of each, one HTML page of all."""

from .files import from_json, to_json, to_markdown, write_again, write_report

__all__ = ["from_json", "to_json", "to_markdown", "write_again", "write_report"]
