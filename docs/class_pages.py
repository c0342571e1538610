"""What Sphinx makes of docstrings, as pages of the API show it: tables first, the rest folded.

A parameter, attribute or method is a line of a table, its name and its first sentence; below the
table is a box that opens, with all that is said. A link to something in the box opens it.
"""

import re

from docutils import nodes
from parameter_topics import TOPICS
from sphinx import addnodes
from sphinx.ext.autosummary import autosummary_table

__all__ = ["setup"]

_FEW = 6  # so many entries need no table
_END = re.compile(r"[.:](?=\s|$)")  # of a sentence


def _rest(text, *children):
    """Return the children in a box that opens."""
    start = nodes.raw("", f'<details class="api-rest"><summary>{text}</summary>', format="html")
    return [start, *children, nodes.raw("", "</details>", format="html")]


def _first_sentence(item):
    """Return the first sentence of an entry of a definition list, as a paragraph."""
    sentence = nodes.paragraph()
    whole = next(iter(item[-1].findall(nodes.paragraph)), nodes.paragraph())
    for child in whole.children:
        end = _END.search(child.astext()) if isinstance(child, nodes.Text) else None
        if end:
            sentence += nodes.Text(child.astext()[: end.start()] + ".")
            break
        sentence += child.deepcopy()
    if default := re.search(r"default=(\S.*)$", " ".join(n.astext() for n in item[:-1])):
        sentence += nodes.Text(" ")
        value = nodes.literal("", default[1])
        sentence += nodes.inline("", "Default: ", value, classes=["api-default"])
    return sentence


def _names(item):
    return item[0].astext().split(" : ")[0]


def _table(items):
    """Return a table of entries: names, which lead to the whole, and first sentences."""
    body, group = nodes.tbody(), nodes.tgroup("", cols=2)
    for width in (24, 76):
        group += nodes.colspec(colwidth=width)
    group += body
    for item in items:
        name = nodes.literal("", _names(item))
        if item[0]["ids"]:
            name = nodes.reference("", "", name, refid=item[0]["ids"][0], internal=True)
        cells = nodes.paragraph("", "", name), _first_sentence(item)
        body += nodes.row("", *(nodes.entry("", cell) for cell in cells))
    return nodes.table("", group, classes=["api-table"])


def _fields(desc, *titles):
    fields = [field for part in desc[1] if isinstance(part, nodes.field_list) for field in part]
    return [field for field in fields if field[0].astext() in titles]


def _items(fields):
    lists = [part for field in fields for part in field[1]]
    return [item for part in lists if isinstance(part, nodes.definition_list) for item in part]


def anchor_entries(app, doctree):
    """Make every parameter and attribute something to link to, the first of a name on a page."""
    seen = set()
    for desc in doctree.findall(addnodes.desc):
        for kind, titles in (
            ("parameter", ("Parameters", "Other Parameters")),
            ("attribute", ("Attributes",)),
        ):
            for item in _items(_fields(desc, *titles)):
                if (name := f"{kind}-{_names(item)}") not in seen:
                    seen.add(name)
                    item[0]["ids"].append(name)


def fold_classes(app, doctree):
    """Show the parameters of a class by topic, and its attributes: tables, and boxes below."""
    for desc in doctree.findall(addnodes.desc):
        if desc["objtype"] != "class":
            continue
        if fields := _fields(desc, "Parameters", "Other Parameters"):
            items = {_names(item): item for item in _items(fields)}
            topics = TOPICS.get(desc[0].get("fullname"), {"": list(items)})
            if len(items) > _FEW:
                _show(fields[0][1], {topic: [items[n] for n in ns] for topic, ns in topics.items()})
                for field in fields[1:]:
                    field.parent.remove(field)
        for field in _fields(desc, "Attributes"):
            if len(items := _items([field])) > _FEW:
                _show(field[1], {"": items})
        _examples_first(desc[1])


def _show(body, topics):
    """Replace what is in a field by the entries, topic by topic."""
    body.clear()
    for topic, items in topics.items():
        if topic:
            body += nodes.rubric("", topic)
        body += _table(items)
        body.extend(
            _rest(f"{topic or 'All of them'}: in detail", nodes.definition_list("", *items))
        )


def _examples_first(content):
    """Put the examples of a class before its parameters."""
    titles = [part.astext() if isinstance(part, nodes.rubric) else "" for part in content]
    places = [i for i, part in enumerate(content) if isinstance(part, nodes.field_list)]
    if "Examples" in titles and places:
        start = titles.index("Examples")
        members = [i for i, part in enumerate(content) if isinstance(part, addnodes.desc)]
        stop = min((i - 1 for i in members), default=len(content))  # an entry of the index first
        if places[0] < start < stop:
            examples = content[start:stop]
            del content[start:stop]
            content[places[0] : places[0]] = examples


def fold_methods(app, doctree):
    """Put the methods of an estimator into a box below their table."""
    if not app.env.docname.startswith("api/"):
        return
    for section in doctree.findall(nodes.section):
        kinds = [isinstance(part, autosummary_table) for part in section]
        if any(kinds):
            start = kinds.index(True) + 1
            methods = section[start:]
            del section[start:]
            section.extend(_rest("All methods and properties in detail", *methods))


def lead_with_summary(app, doctree):
    """Put the first sentence of a page of the API above the signature, which may be long."""
    if not app.env.docname.startswith("api/"):
        return
    desc = next(iter(doctree.findall(addnodes.desc)), None)
    if desc is not None and desc[1].children and isinstance(desc[1][0], nodes.paragraph):
        summary = desc[1].pop(0)
        desc.parent.insert(1, summary)


def setup(app):
    """Change what is read, step by step."""
    for step in (anchor_entries, fold_classes, fold_methods, lead_with_summary):
        app.connect("doctree-read", step)
