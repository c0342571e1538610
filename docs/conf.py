"""Configuration of the Sphinx build: `sphinx-build -W -b html docs docs/_build/html`."""

import re
import sys
from pathlib import Path
from urllib.parse import urljoin

import torch
from docutils import nodes

import sklearn_moe

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

sys.path.insert(0, str(Path(__file__).parent))  # gallery_order, class_pages and others
import class_pages
import fill_tables
import finished_notebooks
from parameter_topics import INDEX_ENTRIES

fill_tables.main()
torch.set_num_threads(1)  # the networks of the examples are small

project = "sklearn_moe"
author = "The sklearn_moe developers"
copyright = author
release = version = sklearn_moe.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",  # plots of tables
    "myst_parser",  # the results are Markdown, as the experiments write them
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**/sg_execution_times.rst", "sg_execution_times.rst"]
default_role = "literal"
add_module_names = False
toc_object_entries_show_parents = "hide"

autosummary_generate = True
autosummary_context = {"index_entries": INDEX_ENTRIES}
autodoc_default_options = {"member-order": "bysource"}
autodoc_typehints = "none"
nitpicky = True  # a name that leads nowhere is a warning
nitpick_ignore = [("py:class", name) for name in ("Interval", "sklearn_moe.paper._run.Run")]
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("sklearn_moe",),
    "within_subsection_order": "gallery_order.Course",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
}

plot_formats = [("png", 150)]
plot_html_show_formats = plot_html_show_source_link = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "sklearn_moe"
html_logo = html_favicon = "static/mark.svg"
html_static_path = ["static"]
html_css_files = ["sklearn_moe.css"]
html_js_files = ["open_details.js"]
html_theme_options = {
    "logo": {"text": f"sklearn_moe {release}"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 8,
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Once the project is published: links, and a menu of the versions, each in a folder of its number.
# `versions.json` lists them, as the theme documents it.
_URLS = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["urls"]
if not _URLS["Documentation"].endswith(".example/"):
    html_baseurl = urljoin(_URLS["Documentation"], f"{release}/")
    html_theme_options |= {
        "switcher": {
            "json_url": urljoin(_URLS["Documentation"], "versions.json"),
            "version_match": release,
        },
        "check_switcher": False,  # a build needs no network
        "navbar_end": ["version-switcher", "theme-switcher"],
        "icon_links": [
            {"name": "Repository", "url": _URLS["Repository"], "icon": "fa-solid fa-code-branch"}
        ],
    }

# Pages that no others are listed beside.
html_sidebars = {page: [] for page in ("index", "quickstart", "measurements")}
html_show_sourcelink = False


# Where others document their names: a page for each. Their inventories would say the same, but a
# build needs no network this way.
_ELSEWHERE = {
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{name}.html",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{name}.html",
    "skorch.callbacks": "https://skorch.readthedocs.io/en/stable/callbacks.html#{name}",
    "numpy": "https://numpy.org/doc/stable/reference/generated/{name}.html",
    "joblib": "https://joblib.readthedocs.io/en/stable/generated/{name}.html",
    "dataclasses": "https://docs.python.org/3/library/dataclasses.html#{name}",
}


def link_elsewhere(app, env, node, contnode):
    """Link the names of other libraries."""
    name = node.get("reftarget", "")
    for package, address in _ELSEWHERE.items():
        if node.get("refdomain") == "py" and name.startswith(f"{package}."):
            address = address.format(name=name)
            return nodes.reference("", "", contnode, internal=False, refuri=address)
    # References to scikit-learn's guide, in inherited docstrings, stay plain text.
    return contnode if name in ("accuracy_score", "r2_score") else None


def keep_numbers_together(app, doctree):
    """Let no line of a table end within a number and its spread, interval or unit."""
    inside = re.compile(r"(?<=\d) (±|to) (?=[-+.\d])|(?<=\d) (?=%)")
    for entry in doctree.findall(nodes.entry):
        for text in list(entry.findall(nodes.Text)):
            kept = inside.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)
            text.parent.replace(text, nodes.Text(kept))


def start_of_a_part(app, pagename, templatename, context, doctree):
    """Let no part of the documentation lead to the first page of another, or back."""
    parts = app.env.toctree_includes["index"]
    if pagename in parts:
        context["prev"] = None
    following = context.get("next")
    if following and any(
        app.builder.get_relative_uri(pagename, p) == following["link"] for p in parts
    ):
        context["next"] = None


def setup(app):
    class_pages.setup(app)
    finished_notebooks.setup(app)
    app.connect("doctree-read", keep_numbers_together)
    app.connect("html-page-context", start_of_a_part)
    app.connect("missing-reference", link_elsewhere)
