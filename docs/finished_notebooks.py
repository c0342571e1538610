"""Run notebooks of the gallery, so that those who download them see their results at once."""

from pathlib import Path

__all__ = ["setup"]

_NAMES = ("plot_frame", "plot_regimes", "plot_image_pipeline")  # a table, rules, images
_TIMEOUT = 600  # seconds for a cell


def run(app):
    """Run the notebooks that were written anew, unless the examples are not run, either."""
    if not app.config.sphinx_gallery_conf["plot_gallery"]:
        return
    import nbformat
    from nbclient import NotebookClient

    for name in _NAMES:
        path = Path(app.srcdir) / "auto_examples" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        if any(cell.get("outputs") for cell in notebook.cells):
            continue
        client = NotebookClient(notebook, timeout=_TIMEOUT, kernel_name="python3")
        client.execute(cwd=str(path.parent))
        nbformat.write(notebook, path)


def setup(app):
    """Come after the gallery, which writes the notebooks."""
    app.connect("builder-inited", run, priority=900)
