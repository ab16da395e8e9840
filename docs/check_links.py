"""Follow every link of the built site that leads within it; `make docs` runs this last."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit


class Page(HTMLParser):
    """The links of a page, and the places in it that can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.places = [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        """Note what the tag links to and what it is called."""
        attrs = dict(attrs)
        if attrs.get("class") == "viewcode-back":  # its page is right, if not always its place
            attrs["href"] = attrs["href"].partition("#")[0]
        self.links += [attrs[name] for name in ("href", "src") if attrs.get(name)]
        self.places |= {attrs[name] for name in ("id", "name") if attrs.get(name)}


def main():
    """Print what is broken; exit with 1 if anything is."""
    folder = Path(sys.argv[1])
    pages = {path.relative_to(folder).as_posix(): Page(path) for path in folder.rglob("*.html")}
    broken, n_links = [], 0
    for name, page in pages.items():
        for link in page.links:
            url = urlsplit(urljoin(f"http://site/{name}", link))
            if urlsplit(link).scheme or urlsplit(link).netloc or "_static/" in name:
                continue
            n_links += 1
            path, place = unquote(url.path).lstrip("/"), unquote(url.fragment)
            if not (folder / path).is_file():
                broken.append(f"{name}: {link}: no such file")
            elif path in pages and place not in pages[path].places:
                broken.append(f"{name}: {link}: no such place")
    print(*broken, f"{n_links} links on {len(pages)} pages, {len(broken)} broken", sep="\n")
    sys.exit(bool(broken) or not pages)


if __name__ == "__main__":
    main()
