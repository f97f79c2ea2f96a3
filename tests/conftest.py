"""Fixtures shared by the tests: data and programs that may be missing, a browser, one JupyterLab server.

`shared` and `chromium` skip where the machine lacks them; with OSPREY_NB_CI=1 that is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import nbformat
import pytest
from jaxtyping import install_import_hook

# In the tests every call into these modules has its types and the shapes of its tensors checked.
SHAPES_CHECKED = [f"osprey_nb.{module}" for module in ("encoder", "mask_extractor", "projector", "llm", "model", "train")]
install_import_hook(SHAPES_CHECKED, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

ROOT = Path(__file__).resolve().parents[1]


def need(thing, message: str):
    """`thing`, or a skip (in CI a failure) with the message when it is missing."""
    if thing:
        return thing
    if os.environ.get("OSPREY_NB_CI") == "1":
        pytest.fail(f"{message} (OSPREY_NB_CI=1 turns this skip into a failure)")
    pytest.skip(message)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data beside the repository."""
    folder = ROOT.parent / "shared"
    return need(folder if folder.is_dir() else None, "no ../shared folder beside the repository")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium or Chrome program."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    return need(found, "no chromium on this machine; install Debian's `chromium`")


@pytest.fixture(scope="session")
def tiny():
    """The model that ships with the package."""
    import osprey_nb

    return osprey_nb.Osprey.from_pretrained("tiny")


@pytest.fixture(scope="session")
def browser(chromium):
    """A headless browser, one for the whole session."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # milliseconds; a slow machine is no error

    quiet = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update"
    arguments = [f"--{word}" for word in [*quiet.split(), "disable-sync"]]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


class Lab:
    """A JupyterLab server on 127.0.0.1 with settings of its own, over an empty folder `notebooks`."""

    def __init__(self, folder: Path):
        self.notebooks = folder / "notebooks"
        environment = dict(os.environ, HOME=str(folder), PYTHONWARNINGS="ignore")
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            environment[name] = str(folder / name.lower())
        for name in ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"):
            environment[name] = str(folder / name.lower())
        news = folder / "jupyterlab_settings_dir/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
        news.parent.mkdir(parents=True)  # the news popup covers the page
        news.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}))
        self.notebooks.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        options = f"--no-browser --allow-root --ip=127.0.0.1 --port={port} --ServerApp.port_retries=0"
        options += " --IdentityProvider.token= --ServerApp.disable_check_xsrf=True"
        self.log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options.split(), f"--ServerApp.root_dir={self.notebooks}"],
            env=environment, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True,
        )
        try:
            self.wait(lambda: self.api("status"), "JupyterLab did not start")
        except BaseException:
            self.stop()
            raise

    def api(self, path: str):
        """The JSON at /api/`path`, or None where the server is not up, or answers with an error for a moment."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/{path}", timeout=10) as answer:
                return json.load(answer)
        except OSError:
            return None

    def wait(self, condition, message: str, seconds: float = 60):
        """Ask again until `condition()` is true."""
        pause = threading.Event()
        for _ in range(int(seconds * 10)):
            if result := condition():
                return result
            if self.process.poll() is not None:
                break
            pause.wait(0.1)
        raise AssertionError(f"{message}:\n{Path(self.log.name).read_text()[-3000:]}")

    def write(self, name: str, *cells: str) -> None:
        """A notebook of these code cells."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.notebooks / name)

    def open(self, page, name: str) -> None:
        """Open a notebook of the folder, and wait until its kernel is there (the idle dot shows too early)."""
        page.goto(f"{self.url}/doc/tree/{name}?reset")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
        self.wait(lambda: self._connected(name), "the kernel did not connect")

    def _connected(self, name: str) -> bool:
        sessions = [session for session in self.api("sessions") or [] if session["path"] == name]
        kernels = [session["kernel"] for session in sessions]
        return any(k["execution_state"] == "idle" and k["connections"] >= 1 for k in kernels)

    def stop(self) -> None:
        """SIGTERM: the server shuts its kernels down and goes."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """One JupyterLab server for the whole session."""
    server = Lab(tmp_path_factory.mktemp("lab"))
    yield server
    server.stop()
