import http.server
import io
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from skunlearn.datasets import _archives, _fetch, fetch_cmu_faces

PIXELS = np.arange(60 * 64, dtype=np.uint8).reshape(60, 64) % 200
MEMBERS = {
    f"faces/{person}/{person}_{pose}_sad_{eyes}_2.pgm": b"P5\n64 60\n200\n" + PIXELS.tobytes()
    for person in ("ann", "bob")
    for pose in ("left", "up")
    for eyes in ("open", "sunglasses")
}
UNUSED = {
    "README.md": b"changed without notice",
    "faces/ann/ann_left_sad_open.pgm": b"full size",
    "faces/ann/ann_right_sad_open_2.pgm.bad": b"faulty",
    "faces/ann/bob_right_sad_open_2.pgm": b"in the wrong folder",
    "../../evil.pgm": b"outside",
}


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"Faces-abc/{name}", content)
    return buffer.getvalue()


GOOD = zipped(MEMBERS | UNUSED)


class Server(http.server.ThreadingHTTPServer):
    """Answers every request with `body`, announced to be `length` bytes long."""

    body, length, status = GOOD, None, 200

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        self.send_response(self.server.status)
        length = self.server.length or len(self.server.body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/archive/abc.zip"
        fake = _fetch._FACES._replace(
            filename="Faces-abc.zip", url=url, sha256=_archives.digest(MEMBERS)
        )
        monkeypatch.setattr(_fetch, "_FACES", fake)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("SKUNLEARN_DATA", raising=False)
        yield server
        server.shutdown()
        thread.join()


def check_faces(faces):
    assert faces.data.shape == (8, 1, 60, 64)
    np.testing.assert_array_equal(np.rint(faces.data[5, 0] * 200), PIXELS)
    assert faces.target.tolist() == [0, 1] * 4
    assert faces.identity.tolist() == ["ann"] * 4 + ["bob"] * 4


def test_download_keeps_the_archive_and_later_calls_need_no_network(server, tmp_path):
    home = tmp_path / "new" / "folder"
    check_faces(fetch_cmu_faces(data_home=home))
    assert [path.name for path in home.iterdir()] == ["Faces-abc.zip"]
    assert server.requests == 1
    server.status = 404
    check_faces(fetch_cmu_faces(data_home=str(home), download_if_missing=False))
    assert server.requests == 1


def test_members_are_not_extracted(server, tmp_path):
    fetch_cmu_faces(data_home=tmp_path / "a" / "b")
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "b", "Faces-abc.zip"}


def corrupted(members):
    name = min(members)
    return members | {name: members[name][:-1] + b"!"}


FAULTS = {
    "404": {"status": 404},
    "server error": {"status": 500},
    "connection closed early": {"body": GOOD[:3000], "length": len(GOOD)},
    "cut archive": {"body": GOOD[:3000]},
    "cut in the directory": {"body": GOOD[:-30]},
    "nothing": {"body": b"", "length": 0},
    "a web page": {"body": b"<html>Please log in</html>"},
    "damaged bytes": {"body": GOOD[:200] + b"\x00\xff\x00\xff" + GOOD[204:]},
    "another content": {"body": zipped(corrupted(MEMBERS))},
    "a member too few": {"body": zipped(dict(list(MEMBERS.items())[1:]))},
    "a member too many": {
        "body": zipped(MEMBERS | {"faces/cy/cy_up_sad_open_2.pgm": MEMBERS[min(MEMBERS)]})
    },
    "an empty archive": {"body": zipped({})},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_failed_download_says_so_and_leaves_nothing(fault, server, tmp_path):
    vars(server).update(FAULTS[fault])
    with pytest.raises(OSError, match=r"127\.0\.0\.1.*abc\.zip failed: .*Try again") as caught:
        fetch_cmu_faces(data_home=tmp_path)
    assert str(tmp_path / "Faces-abc.zip") in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    vars(server).update(body=GOOD, length=None, status=200)
    check_faces(fetch_cmu_faces(data_home=tmp_path))


def test_refused_connection_says_so(server, monkeypatch, tmp_path):
    # Port 9 is the discard service, which nothing offers on loopback.
    fake = _fetch._FACES._replace(url="http://127.0.0.1:9/abc.zip")
    monkeypatch.setattr(_fetch, "_FACES", fake)
    with pytest.raises(OSError, match=r"Downloading http://127\.0\.0\.1:9/abc\.zip failed"):
        fetch_cmu_faces(data_home=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_download_leaves_nothing(server, monkeypatch, tmp_path):
    def interrupt(path, archive):
        assert path.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(_archives, "_read_members", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch_cmu_faces(data_home=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("body", [GOOD[:3000], zipped(corrupted(MEMBERS))])
def test_damaged_archive_on_disk_is_named_and_kept(body, server, tmp_path):
    path = tmp_path / "Faces-abc.zip"
    path.write_bytes(body)
    with pytest.raises(OSError, match=r"Delete it and call again.*127\.0\.0\.1") as caught:
        fetch_cmu_faces(data_home=tmp_path)
    assert str(path) in str(caught.value)
    assert server.requests == 0
    assert path.read_bytes() == body


def test_absent_archive_without_download_is_an_error(server, tmp_path):
    home = tmp_path / "absent"
    with pytest.raises(OSError, match=r"download_if_missing=True.*SKUNLEARN_DATA.*127") as caught:
        fetch_cmu_faces(data_home=home, download_if_missing=False)
    assert str(home / "Faces-abc.zip") in str(caught.value)
    assert not home.exists()
    assert server.requests == 0


def test_folder_is_the_argument_then_the_environment_then_home(server, monkeypatch, tmp_path):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    fetch_cmu_faces()
    assert (tmp_path / "skunlearn_data" / "Faces-abc.zip").exists()
    monkeypatch.setenv("SKUNLEARN_DATA", str(tmp_path / "environment"))
    fetch_cmu_faces()
    assert (tmp_path / "environment" / "Faces-abc.zip").exists()
    fetch_cmu_faces(data_home="~/argument")
    assert (tmp_path / "argument" / "Faces-abc.zip").exists()
    assert server.requests == 3


def test_missing_pooch_names_the_extra_and_only_downloads_need_it(server, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pooch.*pip install '\.\[data\]'"):
        fetch_cmu_faces(data_home=tmp_path)
    Path(tmp_path, "Faces-abc.zip").write_bytes(GOOD)
    check_faces(fetch_cmu_faces(data_home=tmp_path))


def test_digest_does_not_depend_on_order_and_sees_names_and_contents():
    members = {"a": b"1", "b": b"2"}
    assert _archives.digest(members) == _archives.digest({"b": b"2", "a": b"1"})
    others = [{"a": b"2", "b": b"1"}, {"a": b"1", "c": b"2"}, {"a": b"1"}, {}]
    digests = {_archives.digest(other) for other in [members, *others]}
    assert len(digests) == 5
