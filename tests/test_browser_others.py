"""The widgets in the other places where notebooks are read: Notebook 7, marimo, and alone (`osprey-nb studio`)."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import expect
from test_browser_lab import drag, page, run_cell, sweep  # noqa: F401  (page is a fixture)

from osprey_nb.cli import main
from osprey_nb.data.scenes import make_scene

CANVAS = """import numpy as np
from osprey_nb.widgets import MaskCanvas
canvas = MaskCanvas(np.full((60, 80, 3), 220, np.uint8))
"""
MARIMO = """import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    import numpy as np
    from osprey_nb.widgets import MaskCanvas
    canvas = mo.ui.anywidget(MaskCanvas(np.full((60, 80, 3), 220, np.uint8)))
    canvas
    return canvas, mo


@app.cell
def _(canvas, mo):
    canvas.value
    mo.md(f"pixels: {sum(int(mask.sum()) for mask in canvas.widget.masks)}")
    return


if __name__ == "__main__":
    app.run()
"""


@pytest.fixture
def serve(tmp_path):
    """Start a server, and wait until `address` answers; it ends with the test."""
    running = []

    def serve(command, address):
        environment = dict(os.environ, HOME=str(tmp_path), PYTHONWARNINGS="ignore")
        log = (tmp_path / "server.log").open("w")
        running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True))
        for _ in range(600):
            try:
                urllib.request.urlopen(address, timeout=10).close()
                return tmp_path / "server.log"
            except urllib.error.HTTPError:  # it answers, if only to say no
                return tmp_path / "server.log"
            except OSError:
                assert running[-1].poll() is None, (tmp_path / "server.log").read_text()
                threading.Event().wait(0.1)
        raise AssertionError(f"no answer from {address}: {(tmp_path / 'server.log').read_text()}")

    yield serve
    for process in running:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def test_in_notebook_7(lab, page):  # noqa: F811
    tell = "print('pixels', canvas.masks[0].sum())"
    lab.write("seven.ipynb", CANVAS + "canvas", tell)
    page.goto(f"{lab.url}/notebooks/seven.ipynb")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    lab.wait(lambda: lab._connected("seven.ipynb"), "the kernel did not connect")
    assert "notebook" in page.evaluate("document.body.dataset.notebook")  # not JupyterLab
    run_cell(page, 0)
    stage = page.get_by_test_id("stage")
    expect(stage).to_have_attribute("data-ready", "true")
    drag(page, stage, [(10, 10), (40, 30)], (60, 80))
    expect(page.get_by_test_id("status")).to_have_attribute("data-state", "saved")
    expect(page.get_by_test_id("status")).to_have_attribute("data-seq", "1")
    told = run_cell(page, 1).locator(".jp-OutputArea-output").filter(has_text="pixels").text_content()
    assert int(told.split()[1]) > 50


def test_in_marimo(serve, page, tmp_path):  # noqa: F811
    (tmp_path / "app.py").write_text(MARIMO)
    port = free_port()
    options = ["--headless", "--no-token", "--host=127.0.0.1", f"--port={port}"]
    serve([sys.executable, "-m", "marimo", "run", str(tmp_path / "app.py"), *options], f"http://127.0.0.1:{port}")
    page.goto(f"http://127.0.0.1:{port}")
    stage = page.get_by_test_id("stage")
    expect(stage).to_have_attribute("data-ready", "true")
    drag(page, stage, [(10, 10), (40, 30)], (60, 80))
    expect(page.get_by_text(re.compile(r"pixels: [1-9]\d+"))).to_be_visible()
    expect(page.get_by_test_id("status")).to_have_attribute("data-state", "saved")


def test_the_studio_alone_asks_for_its_token_and_no_other_machine(serve, page, tmp_path):  # noqa: F811
    port = free_port()
    command = [sys.executable, "-m", "osprey_nb.cli", "studio", "--no-browser", f"--port={port}"]
    log = serve(command, f"http://127.0.0.1:{port}")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=20) as answer:
        assert "/login" in answer.url  # without the token there is no picture
    answered = []
    page.on("response", lambda response: answered.append(response.url))
    page.goto(re.search(r"http://127\S+token=\S+", log.read_text())[0])
    stage = page.get_by_test_id("stage")
    expect(stage).to_have_attribute("data-ready", "true")
    scene = make_scene(3, 512, "eval")
    thing = scene.objects[0]
    drag(page, stage, sweep(thing.mask), scene.image.shape[:2])
    expect(page.get_by_test_id("answer-1-card")).to_have_attribute("data-state", "done")
    assert thing.kind in page.get_by_test_id("answer-1-short").text_content()
    assert answered and all(url.startswith((f"http://127.0.0.1:{port}", "data:", "blob:")) for url in answered)


@pytest.mark.parametrize(("arguments", "message"), [
    (["nowhere.jpg"], "no image at"), (["--model", "nowhere"], "no model in nowhere"),
    (["--segmenter", "nowhere.pth"], "No weights at nowhere.pth"),
])  # fmt: skip
def test_what_the_studio_cannot_open_is_said_before_it_starts(capsys, arguments, message):
    assert main(["studio", "--no-browser", *arguments]) == 2
    assert message in capsys.readouterr().err
