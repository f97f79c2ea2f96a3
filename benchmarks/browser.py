"""How long a hand waits in a real JupyterLab: from the end of a stroke to the kernel, to the first word, to the whole answer.

    python benchmarks/browser.py        (needs Chromium, and the development extras)

The end of a stroke is the browser's pointerup. All clocks are those of one machine. Results go to benchmarks/results/.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from bench import machine, write
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from conftest import Lab  # noqa: E402
from test_browser_lab import drag, run_cell, sweep  # noqa: E402

from osprey_nb.data.scenes import make_scene  # noqa: E402

SEED, STROKES = 3, 20
SIZES = ((512, 512), (1536, 2048))  # height, width
CANVAS = """import json, time
import numpy as np
from osprey_nb.widgets import MaskCanvas

canvas, heard = MaskCanvas(np.full(({}, {}, 3), 200, np.uint8)), []
canvas.on_stroke(lambda region: heard.append(1000 * time.time()))
canvas"""
STUDIO = f"""import osprey_nb
from osprey_nb.data.scenes import make_scene
from osprey_nb.widgets import Studio

Studio(osprey_nb.Osprey.from_pretrained("tiny"), make_scene({SEED}, 512, "eval").image)"""
WATCH_POINTER = """() => {
  window.ends = [];
  addEventListener("pointerup", (event) => ends.push(performance.timeOrigin + event.timeStamp), true);
}"""
WATCH_ANSWER = """() => {
  window.ends = [];
  let now = null;
  addEventListener("pointerup", (event) => { now = { start: event.timeStamp }; }, true);
  new MutationObserver(() => {
    const card = document.querySelector('[data-testid="answer-1-card"]');
    const text = document.querySelector('[data-testid="answer-1-short"]');
    if (!now || !card || !text) return;
    const spent = performance.now() - now.start;
    now.writing ||= card.dataset.state === "writing";
    if (now.writing && text.textContent) now.first ??= spent;
    if (now.writing && card.dataset.state === "done") { ends.push([now.first ?? spent, spent]); now = null; }
  }).observe(document.querySelector(".osprey-studio"),
    { subtree: true, childList: true, attributes: true, characterData: true });
}"""


def open_widget(lab: Lab, page: Page, *cells: str):
    """A new notebook whose first cell shows a canvas; that canvas, when it can be drawn on."""
    name = f"widget_{len(list(lab.notebooks.iterdir()))}.ipynb"
    lab.write(name, *cells)
    lab.open(page, name)
    run_cell(page, 0)
    stage = page.get_by_test_id("stage")
    expect(stage).to_have_attribute("data-ready", "true")
    return stage


def to_the_kernel(lab: Lab, page: Page, size: tuple[int, int]) -> list[float]:
    """Milliseconds from the end of each stroke to the listener in Python."""
    stage = open_widget(lab, page, CANVAS.format(*size), "print('heard', json.dumps(heard))")
    page.evaluate(WATCH_POINTER)
    rng = np.random.default_rng(0)
    for stroke in range(1, STROKES + 1):
        points = rng.uniform(0.1, 0.9, (6, 2)) * (size[1], size[0])
        drag(page, stage, points.tolist(), size)
        expect(page.get_by_test_id("status")).to_have_attribute("data-seq", str(stroke))
    ends = page.evaluate("ends")[-STROKES:]
    told = run_cell(page, 1).locator(".jp-OutputArea-output").filter(has_text="heard").text_content()
    heard = json.loads(told.split("heard")[1])
    return [there - here for here, there in zip(ends, heard, strict=True)]


def to_the_answer(lab: Lab, page: Page) -> list[tuple[float, float]]:
    """Milliseconds from the end of each stroke to what the page shows: the first word, the whole short answer."""
    stage = open_widget(lab, page, STUDIO)
    expect(page.locator(".jp-CodeCell .jp-InputPrompt").filter(has_text="*")).to_have_count(0)
    page.evaluate(WATCH_ANSWER)
    objects = make_scene(SEED, 512, "eval").objects
    for stroke in range(STROKES):
        drag(page, stage, sweep(objects[stroke % len(objects)].mask)[: 4 + stroke // 2], (512, 512))
        page.wait_for_function("count => ends.length === count", arg=stroke + 1)
    return page.evaluate("ends")


def main() -> None:
    expect.set_options(timeout=60_000)
    rows = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        lab = Lab(Path(folder))
        try:
            options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox", "--disable-gpu"]}
            browser = playwright.chromium.launch(**options)
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            for height, width in SIZES:
                rows[f"stroke to kernel, {width}×{height}"] = to_the_kernel(lab, page, (height, width))
            first, whole = zip(*to_the_answer(lab, page), strict=True)
            rows |= {"stroke to first word, tiny": first, "stroke to whole answer, tiny": whole}
            browser.close()
        finally:
            lab.stop()
    table = [{"what": what, "median_ms": round(float(np.median(x)), 1), "longest_ms": round(max(x), 1), "strokes": len(x)}
             for what, x in rows.items()]  # fmt: skip
    for row in table:
        print(f"{row['what']:36}{row['median_ms']:8.0f} ms, longest {row['longest_ms']:.0f} ms, {row['strokes']} strokes")
    print(f"wrote {write({'machine': machine('cpu'), 'rows': table}, 'browser-').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
