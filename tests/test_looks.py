"""What the widgets look like, where it once went wrong."""

import ipywidgets
import numpy as np
from playwright.sync_api import expect
from test_browser_canvas import Page

from osprey_nb.data.scenes import make_scene
from osprey_nb.widgets import MaskCanvas, Studio
from osprey_nb.widgets.probes import StepperProbe, StepState
from osprey_nb.widgets.probes.controls import beside, heading, notice

GREY = np.full((64, 96, 3), 200, np.uint8)


def test_text_in_headings_stays_text_and_names_are_whole():
    assert "&lt;b&gt;" in heading("<b>", "<i>").value and "&lt;i&gt;" in heading("<b>", "<i>").value
    assert "&lt;img" in notice("<img src=x>").value
    buttons = beside(ipywidgets.ToggleButtons(options=["a", "b"], description="a long name"))
    assert buttons.style.description_width == "initial" and "widget-inline-hbox" in buttons._dom_classes
    assert beside(ipywidgets.IntSlider(3, description="temperature")).style.description_width == "initial"
    assert beside(ipywidgets.Checkbox(True, description="res2")).value


def test_a_stepper_begins_where_it_is_told_to(tiny):
    scene = make_scene(3, size=128, split="eval")
    probe = StepperProbe(tiny, scene.image, [thing.mask for thing in scene.objects], start=StepState(step=2))
    assert probe.state.step == probe.play.value == probe.controls["step"].value == 2
    probe.play.value = 3
    assert probe.state.step == 3


def test_a_click_stays_where_it_was_when_the_canvas_is_out_of_sight_for_a_moment(browser):
    class Segmenter:
        name = "none"

    page = Page(browser, MaskCanvas(GREY, segmenter=Segmenter()))
    page.key("Tab")
    page.get("tool-point").click()
    page.click((30, 20))
    marker = page.page.locator(".osprey-inside circle")
    expect(marker).to_have_count(1)
    there = marker.get_attribute("cx")
    assert float(there) > 0
    still = page.page.evaluate(
        """() => { // hidden and shown again within one frame: no observer is told
            const stage = document.querySelector(".osprey-stage");
            document.body.style.display = "none";
            stage.dispatchEvent(new PointerEvent("pointerleave"));
            document.body.style.display = "";
            return document.querySelector(".osprey-inside circle").getAttribute("cx");
        }"""
    )
    assert still == there
    page.context.close()


def test_a_canvas_on_the_same_page_leaves_the_studio_its_buttons(browser, tiny):
    page = Page(browser, Studio(tiny, GREY))
    looks = """() => ["ask", "everything"].map((name) => {
        const style = getComputedStyle(document.querySelector(`[data-testid=${name}]`));
        return [style.backgroundColor, style.color, style.height];
    })"""
    before = page.page.evaluate(looks)
    page.page.add_style_tag(content=MaskCanvas(GREY)._css)
    assert page.page.evaluate(looks) == before
    page.context.close()
