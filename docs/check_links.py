"""Find links and files that a built page asks for and that are not there.

`python docs/check_links.py FOLDER` walks the pages of a built documentation, looks at every
`href` and `src` that is no address of the web, and at the anchors, and names what is dead. Files of
the theme, `_static`, are looked for, not into.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = set(), {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key in ("href", "src") and value is not None:
                self.links.add(value)
            elif key in ("id", "name") and value is not None:
                self.anchors.add(value)


def dead_links(folder):
    """Yield the pages of a folder and their dead links, sorted."""
    paths = [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: _Page(path.read_text()) for path in paths}
    for path, page in pages.items():
        for link in sorted(page.links):
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not target.is_file() or (
                target in pages and unquote(url.fragment) not in pages[target].anchors
            ):
                yield path.relative_to(folder), link


if __name__ == "__main__":
    found = list(dead_links(Path(sys.argv[1]).resolve()))
    for page, link in found:
        print(f"{page}: {link} leads nowhere")
    print(f"{len(found)} dead links")
    sys.exit(bool(found))
