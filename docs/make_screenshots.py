"""Make docs/img/NAME.png and NAME_dark.png of every widget: a real JupyterLab, light and dark, and the shipped model.

    python docs/make_screenshots.py [NAME ...]        (needs Chromium, and the development extras)

The notebook every_widget.py holds a cell for each widget. They are run and used as a reader would, then photographed in both
themes. Without names all are made, in about two minutes. What the model says is what it says.
"""

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from PIL import Image, ImageChops, ImageOps
from playwright.sync_api import Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from conftest import Lab  # noqa: E402
from test_browser_lab import drag, run_cell, sweep  # noqa: E402

from osprey_nb.data.scenes import make_scene  # noqa: E402

STUDIO, CANVAS, SIDE = 133, 374, 512  # scenes of every_widget.py
TARGET = ROOT / "docs/img"
WIDGET = ".jupyter-widgets, .osprey"
MARGIN = 10  # CSS pixels around a widget
SCALE = 1.5  # pixels of the screenshot to one CSS pixel
WINDOWING = "jupyterlab_settings_dir/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"


def studio(page: Page, cell: Locator) -> None:
    """Paint two things, ask for detail, ask a question."""
    stage, scene = cell.get_by_test_id("stage"), make_scene(STUDIO, size=SIDE, split="eval")
    for region, thing in enumerate(scene.objects[:2], start=1):
        stage.focus()
        page.keyboard.press(str(region))
        drag(page, stage, sweep(thing.mask), scene.image.shape[:2])
        done(cell, f"answer-{region}-card")
    cell.get_by_test_id("answer-1-detail").click()
    done(cell, "answer-1-card")
    cell.get_by_test_id("ready-2").click()
    expect(cell.locator(".osprey-exchange")).to_have_attribute("data-state", "done")


def everything(page: Page, cell: Locator) -> None:
    """Let SAM find all there is, and take two things."""
    cell.get_by_test_id("everything").click()
    for region, candidate in enumerate((2, 5), start=1):
        cell.get_by_test_id(f"candidate-{candidate}").click()
        done(cell, f"answer-{region}-card")


def done(cell: Locator, card: str) -> None:
    expect(cell.get_by_test_id(card)).to_have_attribute("data-state", "done")


def candidates(page: Page, cell: Locator) -> None:
    """Click a thing for SAM, as region 3."""
    stage, mask = cell.get_by_test_id("stage"), make_scene(CANVAS, size=SIDE, split="eval").objects[2].mask
    stage.focus()
    page.keyboard.press("3")
    page.keyboard.press("s")
    y, x = (axis.mean() / SIDE for axis in mask.nonzero())
    box = stage.bounding_box()
    stage.click(position={"x": x * box["width"], "y": y * box["height"]})
    expect(cell.get_by_test_id("candidates-say")).to_have_text("Which one?")


def keys(page: Page, cell: Locator) -> None:
    """Open the card of keys."""
    cell.get_by_test_id("tool-help").click()
    expect(cell.get_by_test_id("help")).to_be_visible()


HANDS = {"studio": studio, "everything": everything, "canvas": candidates, "keys": keys}


def show(page: Page, number: int, hand) -> Locator:
    """Run a cell and use its widget. Returns the cell when all is said."""
    cell = run_cell(page, number)
    expect(cell.locator(".jp-InputPrompt")).not_to_contain_text("*")
    expect(cell.locator(WIDGET).first).to_be_visible()
    if cell.get_by_test_id("stage").count():
        expect(cell.get_by_test_id("stage")).to_have_attribute("data-ready", "true")
    if hand:
        hand(page, cell)
    return cell


def shoot(page: Page, cell: Locator, target: Path, dither: bool) -> None:
    """Save a picture of a cell's output, cut to what is there, in 256 colours. Dithering costs bytes; a large sky needs it."""
    output = cell.locator(".jp-OutputArea-output").filter(has=page.locator(WIDGET))
    page.mouse.move(2, 2)
    output.evaluate("node => Promise.all([...node.querySelectorAll('img')].map((image) => image.decode()))")
    picture = Image.open(io.BytesIO(output.screenshot())).convert("RGB")
    picture = picture.crop((0, 0, picture.width, picture.height - 3))  # of a broken number of pixels
    ground = Image.new("RGB", picture.size, picture.getpixel((picture.width - 2, 1)))
    picture = picture.crop(ImageChops.difference(picture, ground).getbbox())
    picture = ImageOps.expand(picture, round(MARGIN * SCALE), ground.getpixel((0, 0)))
    palette = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3)
    how = Image.Dither.FLOYDSTEINBERG if dither else Image.Dither.NONE
    picture.quantize(palette=palette, dither=how).save(target, optimize=True)


def darken(page: Page) -> None:
    """JupyterLab's dark theme, chosen in its command palette."""
    page.locator(".jp-CodeCell .cm-content").first.click()  # a canvas keeps the keys to itself
    page.keyboard.press("Control+Shift+C")
    page.keyboard.type("use theme")
    page.locator(".lm-CommandPalette-item").get_by_text("Use Theme: JupyterLab Dark", exact=True).click()
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
    expect(page.locator("#jupyterlab-splash")).to_have_count(0)  # it covers the page while the theme changes


def main(names: list[str]) -> None:
    notebook = jupytext.read(TARGET.parent / "every_widget.py")
    cells = {cell.metadata.get("title"): cell for cell in notebook.cells}
    widgets = [name for name in cells if name not in (None, "begin")]
    if unknown := set(names) - set(widgets):
        raise SystemExit(f"No widget is called {', '.join(unknown)}; there are {', '.join(widgets)}.")
    names = names or widgets
    notebook.cells = [cells["begin"], *(cells[name] for name in names)]
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    expect.set_options(timeout=120_000)
    os.environ["PYTHONPATH"] = str(ROOT)  # of the kernel: this checkout's package
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        lab = Lab(Path(folder))
        try:
            nbformat.write(notebook, lab.notebooks / "widgets.ipynb")
            settings = Path(folder, WINDOWING)
            settings.parent.mkdir(parents=True)
            settings.write_text('{"windowingMode": "none"}')  # all cells stay on the page
            options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox", "--disable-gpu"]}
            browser = playwright.chromium.launch(**options)
            page = browser.new_page(viewport={"width": 1440, "height": 2200}, device_scale_factor=SCALE)
            lab.open(page, "widgets.ipynb")
            page.add_style_tag(content=".jp-OutputArea-output { padding-bottom: 8px }")  # away from the next cell
            run_cell(page, 0)
            shown = {name: show(page, number, HANDS.get(name)) for number, name in enumerate(names, start=1)}
            for theme in ("", "_dark"):
                if theme:
                    darken(page)
                for name, cell in shown.items():
                    shoot(page, cell, TARGET / f"{name}{theme}.png", dither=name in HANDS)
            browser.close()
        finally:
            lab.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
