"""Finished runs on disk: a killed experiment goes on where it was."""

import hashlib
import json
import os
from pathlib import Path

__all__ = ["RunStore"]


class RunStore:
    """A folder with one JSON file per finished run, named by the content of its settings.

    A changed setting is another file, and a half-written file is never read: it gets its name when
    it is complete.

    Parameters
    ----------
    folder : path-like
        Made when the first run is put.
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def path(self, settings):
        """Return the file of a run."""
        text = json.dumps(settings, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"

    def get(self, settings):
        """Return what a finished run has found, None if it is not there."""
        path = self.path(settings)
        return json.loads(path.read_text())["result"] if path.exists() else None

    def put(self, settings, result):
        """Keep what a run has found, all of it or nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(settings)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps({"settings": settings, "result": result}))
        part.replace(path)
