"""The widgets in a real JupyterLab: one server on 127.0.0.1 and one browser for all tests of this file."""

import re
import shutil
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from osprey_nb.data.scenes import make_scene
from osprey_nb.widgets.label_files import read_labels

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SECONDS = 60_000  # milliseconds: the patience of every wait


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(SECONDS)
    yield context.new_page()
    context.close()


def run_cell(page, number: int):
    """Run one code cell and return it."""
    cell = page.locator(".jp-CodeCell").nth(number)
    cell.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    return cell


def drag(page, stage, points, size) -> None:
    """One stroke through `points`, given in image pixels of an image of `size` (H, W)."""
    stage.evaluate("node => node.scrollIntoView({block: 'center'})")  # JupyterLab lays out what is in sight only
    stage.hover()  # waits until the page is still
    box = stage.bounding_box()
    for i, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x / size[1] * box["width"], box["y"] + y / size[0] * box["height"], steps=3)
        if i == 0:
            page.mouse.down()
    page.mouse.up()


def test_the_kernel_has_the_very_pixels_that_the_browser_shows(lab, page):
    show = "import numpy as np\nfrom osprey_nb.widgets import MaskCanvas\n"
    show += "canvas = MaskCanvas(np.full((60, 80, 3), 220, np.uint8), title='Pixels')\ncanvas"
    tell = "print('labels', ''.join(map(str, (canvas.masks[0] + 2 * canvas.masks[1]).ravel())))"
    lab.write("pixels.ipynb", show, tell)
    lab.open(page, "pixels.ipynb")

    run_cell(page, 0)
    stage = page.get_by_test_id("stage")
    expect(stage).to_have_attribute("data-ready", "true")
    cells = page.locator(".jp-Cell").count()
    drag(page, stage, [(10, 10), (40, 30), (20, 50)], (60, 80))
    page.keyboard.press("b")  # for the notebook: a new cell below
    page.keyboard.press("2")  # for the notebook: a heading
    drag(page, stage, [(50, 10), (70, 50)], (60, 80))
    drag(page, stage, [(5, 55), (75, 5)], (60, 80))
    page.keyboard.press("Control+z")
    saved = page.get_by_test_id("status")
    expect(saved).to_have_attribute("data-seq", "4")
    expect(saved).to_have_attribute("data-state", "saved")
    assert page.locator(".jp-Cell").count() == cells, "the notebook took a key of the canvas"

    told = run_cell(page, 1).locator(".jp-OutputArea-output").filter(has_text="labels")
    kernel = np.array(list(told.text_content().split()[1]), dtype=int).reshape(60, 80)
    shown = page.evaluate(
        """() => {
            const canvas = document.querySelector(".osprey-overlay");
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const shown = [];
            for (let y = 0; y < 60; y++) for (let x = 0; x < 80; x++) {
                const row = Math.floor((y + 0.5) / 60 * canvas.height);
                const at = row * canvas.width + Math.floor((x + 0.5) / 80 * canvas.width);
                shown.push(pixels[4 * at + 3] ? (pixels[4 * at] > pixels[4 * at + 2] ? 1 : 2) : 0); // orange or blue
            }
            return shown;
        }"""
    )
    np.testing.assert_array_equal(np.array(shown).reshape(60, 80), kernel)
    assert kernel[20, 25] == 1 and kernel[30, 60] == 2, "between the corners of the strokes"


def sweep(mask) -> list[tuple[float, float]]:
    """A zigzag over an object, as a hand would paint it."""
    rows = np.flatnonzero(mask.any(axis=1))
    points = []
    for i, y in enumerate(rows[8:-8:12]):
        columns = np.flatnonzero(mask[y])
        ends = [(float(columns[0] + 6), float(y)), (float(columns[-1] - 6), float(y))]
        points += ends if i % 2 == 0 else ends[::-1]
    return points


def test_a_stroke_over_an_object_in_the_first_notebook_brings_its_name(lab, page):
    source = NOTEBOOKS / "00_first_look.ipynb"
    shutil.copy(source, lab.notebooks)
    seed = int(re.search(r"SEED = (\d+)", source.read_text())[1])
    scene = make_scene(seed, size=512, split="eval")
    thing = max(scene.objects, key=lambda thing: thing.mask.sum())

    lab.open(page, source.name)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    studio = page.locator(".osprey-studio").first
    stage = studio.get_by_test_id("stage")
    expect(stage).to_have_attribute("data-ready", "true")
    # The notebook scrolls along with the running cell, so the hand waits for the last one.
    expect(page.locator(".jp-CodeCell .jp-InputPrompt").filter(has_text="*")).to_have_count(0)
    assert "photographs" in studio.get_by_test_id("banner").text_content()
    drag(page, stage, sweep(thing.mask), scene.image.shape[:2])
    expect(studio.get_by_test_id("answer-1-card")).to_have_attribute("data-state", "done")
    assert thing.kind in studio.get_by_test_id("answer-1-short").text_content()

    studio.get_by_test_id("answer-1-detail").click()
    expect(studio.get_by_test_id("answer-1-detailed")).to_have_text(re.compile(r"\w+ \w+"))
    studio.get_by_test_id("question").fill("What is <region1>?")
    page.keyboard.press("Enter")
    expect(studio.get_by_test_id("turn-1-answer")).to_have_text(re.compile(r"\w+"))
    expect(studio.get_by_test_id("answer-1-card")).to_have_attribute("data-state", "done")
    assert studio.get_by_test_id("notice").is_hidden()


def test_a_kernel_restart_keeps_what_was_drawn_exportable(lab, page, tmp_path):
    show = "import numpy as np\nfrom osprey_nb.widgets import MaskCanvas\n"
    show += "MaskCanvas(np.full((60, 80, 3), 220, np.uint8))"
    lab.write("restart.ipynb", show)
    lab.open(page, "restart.ipynb")
    run_cell(page, 0)
    stage = page.get_by_test_id("stage")
    expect(stage).to_have_attribute("data-ready", "true")
    drag(page, stage, [(10, 10), (40, 30)], (60, 80))
    expect(page.get_by_test_id("status")).to_have_attribute("data-state", "saved")
    (kernel,) = [s["kernel"]["id"] for s in lab.api("sessions") if s["path"] == "restart.ipynb"]
    restart = urllib.request.Request(f"{lab.url}/api/kernels/{kernel}/restart", method="POST")
    urllib.request.urlopen(restart, timeout=60).close()
    drag(page, stage, [(50, 10), (70, 50)], (60, 80))  # nobody hears of this one
    expect(page.get_by_test_id("status")).to_have_attribute("data-state", "lost")
    with page.expect_download() as download:
        page.get_by_test_id("save-json").click()
    download.value.save_as(tmp_path / "kept.json")
    labels, _ = read_labels(tmp_path / "kept.json", (60, 80))
    assert labels[20, 25] == 1 and labels[30, 60] == 1


def test_a_click_and_a_drag_in_a_probe_reach_the_kernel(lab, page):
    show = """import numpy as np, torch
from osprey_nb.widgets.probes import MaskProbe

levels = [torch.rand(8, side, side) for side in (16, 8, 4, 2)]
MaskProbe(np.full((64, 64, 3), 200, np.uint8), levels)"""
    lab.write("pointed.ipynb", show)
    lab.open(page, "pointed.ipynb")
    cell = run_cell(page, 0)
    place, picture = cell.get_by_test_id("place-picture"), cell.locator(".osprey-pointed-image")
    expect(place).to_be_visible()
    readout, before = cell.locator(".widget-readout"), picture.get_attribute("src")
    assert "Click a picture" in picture.get_attribute("alt")

    box = place.bounding_box()
    place.click(position={"x": 0.25 * box["width"], "y": 0.75 * box["height"]})
    expect(readout.nth(0)).to_have_text("16")
    expect(readout.nth(1)).to_have_text("48")
    expect(cell.locator(".osprey-pointed")).to_have_attribute("data-state", "ready")
    expect(picture).not_to_have_attribute("src", before)

    line, middle = cell.locator(".osprey-pointed-line"), (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    place.hover()
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] + 80, steps=4)
    assert line.is_visible() and line.evaluate("node => parseFloat(node.style.width)") == pytest.approx(100, abs=2)
    page.mouse.up()
    expect(line).to_be_hidden()
    expect(readout.nth(0)).to_have_text(f"{32 + 60 / box['width'] * 64:.0f}")
