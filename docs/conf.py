"""Configuration of the Sphinx build: `sphinx-build -W -b html docs docs/_build/html`."""

import torch

import sklearn_moe

torch.set_num_threads(1)  # the networks of the examples are small

project = "sklearn_moe"
author = "The sklearn_moe developers"
copyright = author
release = version = sklearn_moe.__version__

extensions = [
    "myst_parser",  # the results are Markdown, as the experiments write them
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "tables/*.rst"]
default_role = "literal"
add_module_names = False
toc_object_entries_show_parents = "hide"

autosummary_generate = True
autodoc_default_options = {"member-order": "bysource"}
autodoc_typehints = "none"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("sklearn_moe",),
    "within_subsection_order": "ExampleTitleSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "sklearn_moe"
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "header_links_before_dropdown": 6,
    "footer_start": [],
    "footer_end": [],
}
html_sidebars = {
    page: []
    for page in (
        "index",
        "quickstart",
        "data_shapes",
        "tabular",
        "how_it_works",
        "routers",
        "regression",
        "specialization",
        "callbacks",
        "extend",
        "images",
        "paper",
        "results/*",
        "paper_parameters",
        "auto_examples/*",
    )
}
html_show_sourcelink = False


def unlink_scikit_learn(app, env, node, contnode):
    """Leave references to scikit-learn's guide, in inherited docstrings, as plain text."""
    return contnode if node.get("reftarget") in ("accuracy_score", "r2_score") else None


def setup(app):
    app.connect("missing-reference", unlink_scikit_learn)
