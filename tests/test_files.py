"""Weights that are fetched: what has come is kept, and only the promised file is taken."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from osprey_nb.files import fetch_file

BODY = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server on this machine. `sent` holds the ranges asked for; it sends at most `server.most` bytes, then hangs up."""
    monkeypatch.setenv("OSPREY_NB_CACHE", str(tmp_path))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.server.asked.append(start)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(self.server.body) - start))
            self.end_headers()
            self.wfile.write(self.server.body[start : start + self.server.most])

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body, server.most, server.asked = BODY, len(BODY), []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}/weights.pth"
    yield server
    server.shutdown()


def fetch(server):
    return fetch_file(server.url, len(BODY), DIGEST, "sam", progress=False)


def test_fetched_once(server, tmp_path):
    path = fetch(server)
    assert path == tmp_path / "sam" / "weights.pth" and path.read_bytes() == BODY
    assert fetch(server) == path and server.asked == [0]


def test_goes_on_where_the_connection_broke(server):
    server.most = 2_000_000
    with pytest.raises(ConnectionError, match="2,000,000 of 5,120,000 bytes are kept"):
        fetch(server)
    server.most = len(BODY)
    assert fetch(server).read_bytes() == BODY
    assert server.asked == [0, 2_000_000]


def test_another_file_is_refused_and_not_kept(server, tmp_path):
    server.body = b"x" * len(BODY)
    with pytest.raises(ValueError, match="not the file that was released"):
        fetch(server)
    assert not list((tmp_path / "sam").iterdir())


def test_no_network(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match="put the file at .*weights.pth by hand"):
        fetch(server)
