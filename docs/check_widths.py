"""Find pages that scroll sideways, on a wide screen and on a telephone.

`python docs/check_widths.py FOLDER` opens every page of a built documentation in Chromium. Where
there is none, nothing is checked, and that is said.
"""

import shutil
import sys
from pathlib import Path

WIDTHS = (1280, 400)
_OPTIONS = (  # a page needs no network
    *("--no-sandbox", "--disable-gpu"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
_SPARE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def too_wide(page, folder):
    """Yield the pages of a folder that are wider than the screen, the screen, and by how much."""
    for path in sorted(folder.rglob("*.html")):
        if "_static" in path.parts:
            continue
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            if (spare := page.evaluate(_SPARE)) > 0:
                yield path.relative_to(folder), width, spare


def main(folder):
    """Print what scrolls sideways, and return how often that is so."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("No Chromium, or no playwright: the width of the pages is not checked.")
        return 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_OPTIONS)
        page = browser.new_page()
        n_found = 0
        for path, width, spare in too_wide(page, folder):
            print(f"{path}: {spare} pixels too wide for a screen of {width}", flush=True)
            n_found += 1
        browser.close()
    print(f"{n_found} times a page scrolls sideways")
    return n_found


if __name__ == "__main__":
    sys.exit(bool(main(Path(sys.argv[1]).resolve())))
