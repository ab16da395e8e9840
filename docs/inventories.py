"""What the site links to in other projects' documentation, kept here: no link needs a network.

A list in `inventories/` opens with the address of a project's pages. A line with a page, in which
`$` is the name, says where the names below it are; each of them is an anchor of that page.
"""

import zlib
from pathlib import Path

HERE = Path(__file__).parent / "inventories"
HEADER = (
    "# Sphinx inventory version 2\n# Project: {}\n# Version: \n"
    "# The remainder of this file is compressed using zlib.\n"
)


def read(name):
    """Return the address of a project's documentation, and its (kind, name, place) of a list."""
    address, page, entries = None, None, []
    for line in (HERE / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("https://"):
            address = line
        elif line.endswith(".html"):
            page = line
        elif line and not line.startswith("#"):
            kind, target = line.split()
            entries.append((kind, target, page.replace("$", target) + "#" + target))
    return address, entries


def mapping(folder):
    """Write each list as an inventory into a folder; return what intersphinx asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for path in sorted(HERE.glob("*.txt")):
        address, entries = read(path.stem)
        lines = "".join(f"{name} py:{kind} 1 {place} -\n" for kind, name, place in entries)
        inventory = folder / f"{path.stem}.inv"
        inventory.write_bytes(HEADER.format(path.stem).encode() + zlib.compress(lines.encode()))
        found[path.stem] = address, str(inventory)
    return found
