"""Make docs/img/studio.png and studio_dark.png: the real studio, in a real JupyterLab, with the shipped model.

    python docs/make_screenshots.py        (needs Chromium, and the development extras)

A hand paints two things of an unseen scene, asks for detail and asks a question; what the model says is what it says.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from conftest import Lab  # noqa: E402
from test_browser_lab import drag, run_cell, sweep  # noqa: E402

from osprey_nb.data.scenes import make_scene  # noqa: E402

SEED = 374
CELL = f"""import osprey_nb
from osprey_nb.data.scenes import make_scene
from osprey_nb.widgets import Studio

model = osprey_nb.Osprey.from_pretrained("tiny")
Studio(model, make_scene({SEED}, size=512, split="eval").image)"""


def shoot(lab: Lab, browser, theme: str, target: Path) -> None:
    """Open the notebook in a theme, paint, ask, and save a picture of the studio."""
    settings = lab.notebooks.parent / "jupyterlab_settings_dir/@jupyterlab/apputils-extension"
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    page = browser.new_page(viewport={"width": 1440, "height": 1100}, device_scale_factor=1.5)
    lab.open(page, "studio.ipynb")
    run_cell(page, 0)
    studio = page.locator(".osprey-studio")
    stage = studio.get_by_test_id("stage")
    expect(stage).to_have_attribute("data-ready", "true")
    scene = make_scene(SEED, size=512, split="eval")
    for region, thing in enumerate(scene.objects[:2], start=1):
        page.keyboard.press(str(region))
        drag(page, stage, sweep(thing.mask), scene.image.shape[:2])
        stage.focus()
        expect(studio.get_by_test_id(f"answer-{region}-card")).to_have_attribute("data-state", "done")
        page.keyboard.press(str(region + 1))
    studio.get_by_test_id("answer-1-detail").click()
    expect(studio.get_by_test_id("answer-1-card")).to_have_attribute("data-state", "done")
    studio.get_by_test_id("question").fill("What colour is <region2>?")
    studio.get_by_test_id("ask").click()
    expect(studio.locator(".osprey-exchange")).to_have_attribute("data-state", "done")
    page.mouse.move(5, 5)
    studio.screenshot(path=target)
    page.close()


def main() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    expect.set_options(timeout=60_000)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        lab = Lab(Path(folder))
        try:
            nbformat.write(notebook, lab.notebooks / "studio.ipynb")
            options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox", "--disable-gpu"]}
            browser = playwright.chromium.launch(**options)
            shoot(lab, browser, "JupyterLab Light", ROOT / "docs/img/studio.png")
            shoot(lab, browser, "JupyterLab Dark", ROOT / "docs/img/studio_dark.png")
            browser.close()
        finally:
            lab.stop()


if __name__ == "__main__":
    main()
