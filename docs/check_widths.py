"""Find pages that scroll sideways, boxes that are cut and names that are broken, on two screens.

`python docs/check_widths.py FOLDER` opens every page of a built documentation in Chromium. A box
(code, output, table, formula) may be wider than its place only if it has a visible scroll bar.
The screens are a wide one and that of a telephone. Where there is no Chromium, nothing is checked,
and that is said.
"""

import shutil
import sys
from pathlib import Path

WIDTHS = (1280, 400)
_OPTIONS = (  # a page needs no network
    *("--no-sandbox", "--disable-gpu"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
_UNFOLD = "document.querySelectorAll('details').forEach(details => details.open = true)"
_SPARE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_CUT = """Array.from(document.querySelectorAll('article :is(pre, div, table)')).filter(box => {
    const style = getComputedStyle(box);
    const borders = parseFloat(style.borderTopWidth) + parseFloat(style.borderBottomWidth);
    const bar = box.offsetHeight - box.clientHeight - borders;
    return box.scrollWidth > box.clientWidth + 1 && style.overflowX != 'visible' && bar < 1;
}).map(box => box.textContent.trim().split('\\n')[0].slice(0, 40))"""


_BROKEN = r"""Array.from(document.querySelectorAll('article :is(code, .sig-name, .sig-param .n)'))
    .filter(name => /^\w+$/.test(name.textContent.trim()) && name.getClientRects().length > 1)
    .map(name => name.textContent.trim())"""


def found(page, folder):
    """Yield the pages of a folder, the width of the screen, and what is wrong."""
    for path in sorted(folder.rglob("*.html")):
        if "_static" in path.parts:
            continue
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        page.evaluate(_UNFOLD)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            if (spare := page.evaluate(_SPARE)) > 0:
                yield path.relative_to(folder), width, f"{spare} pixels too wide"
            for text in page.evaluate(_CUT):
                yield path.relative_to(folder), width, f"a box is cut: {text}"
            for name in page.evaluate(_BROKEN):
                yield path.relative_to(folder), width, f"a name is broken: {name}"


def main(folder):
    """Print what is wrong, and return how often."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("No Chromium, or no playwright: the width of the pages is not checked.")
        return 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=_OPTIONS, ignore_default_args=["--hide-scrollbars"]
        )
        page = browser.new_page()
        n_found = 0
        for path, width, what in found(page, folder):
            print(f"{path}, screen of {width} pixels: {what}", flush=True)
            n_found += 1
        browser.close()
    print(f"{n_found} pages or boxes are too wide, or names broken")
    return n_found


if __name__ == "__main__":
    sys.exit(bool(main(Path(sys.argv[1]).resolve())))
