"""Public zip archives: find them on disk or download them, and verify what is read from them."""

import hashlib
import importlib
import os
import re
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple


class Archive(NamedTuple):
    """Where an archive is, which of its members are used, and what they must hold.

    Parameters
    ----------
    filename : str
        Name of the archive in the data folder.
    url : str
        Public address.
    members : str
        Regular expression for the whole path of a member below the archive's top folder.
    sha256 : str
        Digest of the members, see :func:`digest`. The archive itself has no fixed digest: its
        host zips it again.
    """

    filename: str
    url: str
    members: str
    sha256: str


def import_extra(module):
    """Import a module of the extra ``skunlearn[data]``, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} is needed to load this data set and could not be imported ({error}). "
            "Install it with: pip install '.[data]' in a checkout of skunlearn."
        ) from error


def digest(contents):
    """Return one sha256 over the sorted names and contents of ``{name: bytes}``."""
    total = hashlib.sha256()
    for name in sorted(contents):
        total.update(f"{name} {hashlib.sha256(contents[name]).hexdigest()}\n".encode())
    return total.hexdigest()


def load_members(archive, *, data_home, download_if_missing):
    """Return the verified members of an archive, downloading it where it is absent.

    Parameters
    ----------
    archive : Archive
        What to load.
    data_home : str, path-like or None
        Folder of the archive; None for ``$SKUNLEARN_DATA``, else ``~/skunlearn_data``.
    download_if_missing : bool
        Whether an absent archive is downloaded.

    Returns
    -------
    list of (re.Match, bytes)
        The match of the member's path and its content, sorted by path.

    Raises
    ------
    OSError
        If the archive is absent and not to be downloaded, cannot be downloaded, or does not
        hold the expected members.
    """
    home = Path(data_home or os.environ.get("SKUNLEARN_DATA") or "~/skunlearn_data").expanduser()
    path = home / archive.filename
    if path.exists():
        try:
            return _read_members(path, archive)
        except OSError as error:
            raise OSError(
                f"{path} cannot be used: {error}. Delete it and call again to download "
                f"{archive.url}."
            ) from error
    if not download_if_missing:
        raise OSError(
            f"{path} is not there and download_if_missing=False. Pass download_if_missing=True, "
            f"or a data_home (or environment variable SKUNLEARN_DATA) which holds it, or save "
            f"{archive.url} under that name."
        )
    pooch = import_extra("pooch")
    home.mkdir(parents=True, exist_ok=True)
    # Only what has been verified ever gets the final name, and renaming is atomic.
    with tempfile.TemporaryDirectory(dir=home, prefix="download-") as folder:
        part = Path(folder, archive.filename)
        try:
            pooch.HTTPDownloader()(archive.url, str(part), None)
            members = _read_members(part, archive)
        except OSError as error:
            if (response := getattr(error, "response", None)) is not None:
                response.close()  # pooch leaves the connection of a refused request open
            raise OSError(
                f"Downloading {archive.url} failed: {error}. Nothing was kept. Try again, or "
                f"save the archive as {path} by other means."
            ) from error
        part.replace(path)
    return members


def _read_members(path, archive):
    # In memory: names from an archive never become paths on disk.
    contents, matches = {}, {}
    try:
        with zipfile.ZipFile(path) as file:
            for info in file.infolist():
                match = re.fullmatch(archive.members, info.filename.partition("/")[2])
                if match:
                    matches[match[0]] = match
                    contents[match[0]] = file.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise OSError(f"it is truncated or no zip archive ({error})") from error
    actual = digest(contents)
    if actual != archive.sha256:
        raise OSError(
            f"its content is not the expected one ({len(contents)} members with the digest "
            f"{actual} instead of {archive.sha256})"
        )
    return [(matches[name], contents[name]) for name in sorted(contents)]
