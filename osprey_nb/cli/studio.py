"""`osprey-nb studio`: the studio alone in a browser, without a notebook around it (Voilà)."""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import subprocess
import sys
import tempfile
import webbrowser
from pathlib import Path

from .shared import load_model

# Voilà's page asks other machines for fonts and icons; the browser is told to let it ask this one only.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws: blob: data:"
CODE = """from osprey_nb.cli.shared import load_model
from osprey_nb.segment import load_segmenter
from osprey_nb.widgets import Studio
Studio(load_model({model!r}), {image!r}, segmenter=load_segmenter({segmenter!r}))
"""


def studio(arguments: argparse.Namespace) -> int:
    from ..images import load_image
    from ..segment import load_segmenter

    image = 3 if arguments.image is None else str(Path(arguments.image).resolve())
    if arguments.image is not None:
        load_image(image)  # what is wrong is said here, not in the browser
    load_model(arguments.model)
    load_segmenter(arguments.segmenter)
    model, segmenter = (
        str(Path(name).resolve()) if Path(name).exists() else name for name in (arguments.model, arguments.segmenter)
    )
    token, port = secrets.token_urlsafe(24), arguments.port or _free_port()
    with tempfile.TemporaryDirectory(prefix="osprey-studio-") as folder:
        notebook = Path(folder) / "studio.ipynb"
        notebook.write_text(json.dumps(_notebook(CODE.format(model=model, image=image, segmenter=segmenter))), encoding="utf-8")
        settings = {"Voila": {"tornado_settings": {"headers": {"Content-Security-Policy": POLICY}}}}
        (Path(folder) / "voila.json").write_text(json.dumps(settings), encoding="utf-8")
        address = f"http://127.0.0.1:{port}/?token={token}"
        print(f"osprey-nb: the studio is at {address}\n           it stops with Ctrl-C", flush=True)
        options = [f"--port={port}", "--Voila.port_retries=0", "--no-browser", f"--token={token}", "--Voila.log_level=ERROR"]
        place = ["--Voila.ip=127.0.0.1", f"--Voila.config_file_paths={folder}"]
        server = subprocess.Popen([sys.executable, "-m", "voila", str(notebook), *place, *options])
        try:
            if not arguments.no_browser:
                _wait_until_open(port, server)
                webbrowser.open(address)
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            server.terminate()
            server.wait()


def _notebook(code: str) -> dict:
    cell = {"cell_type": "code", "id": "studio", "metadata": {}, "execution_count": None, "outputs": [], "source": code}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "title": "Osprey studio"}
    return {"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def _wait_until_open(port: int, server: subprocess.Popen) -> None:
    for _ in range(300):
        with socket.socket() as place:
            place.settimeout(0.2)
            if server.poll() is not None or place.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            server.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
