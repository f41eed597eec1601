"""The page of the statement, in a real browser: readable on a phone and in the dark, self-contained, escaped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from test_statement import BY_ACCURACY, RDP, one_cross_check

from mltrain.privacy.epsilon_curve import epsilon_curve
from mltrain.privacy.statement import privacy_facts, short_facts
from mltrain.privacy.statement_page import statement_page

__all__ = ["one_cross_check"]  # a fixture, used by every test

ODD = '<img src=x onerror="document.title=1"> & "quotes"'
CONTRAST = """() => {
  const light = colour => {
    const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const back = light(getComputedStyle(document.body).backgroundColor);
  return Math.min(...[...document.querySelectorAll("h1, th, td, li, p, .curve text")].map(item => {
    const style = getComputedStyle(item), text = light(item.tagName == "text" ? style.fill : style.color);
    return (Math.max(text, back) + .05) / (Math.min(text, back) + .05);
  }));
}"""


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    claim = replace(RDP, selection="best", decisions=BY_ACCURACY, accept_selection_leak=True, run_name=ODD)
    return privacy_facts(claim)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if shutil.which("chromium") is None:
        pytest.skip("there is no chromium on this machine: the page is not seen in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


def shown(browser: Any, text: str, **options: Any) -> Any:
    page = browser.new_page(**options)
    page.set_content(text)
    return page


def test_a_phone_shows_it_without_scrolling_sideways(browser: Any, facts: dict[str, Any]) -> None:
    page = shown(browser, statement_page(facts), viewport={"width": 340, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 340
    assert page.locator(".curve").bounding_box()["width"] > 250
    font = page.evaluate("parseFloat(getComputedStyle(document.querySelector('td')).fontSize)")
    assert font >= 15
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_either_scheme(browser: Any, facts: dict[str, Any], scheme: str) -> None:
    page = shown(browser, statement_page(facts), color_scheme=scheme)
    assert page.evaluate(CONTRAST) >= 4.5
    red = int(page.evaluate("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0])
    assert (red > 200) is (scheme == "light")
    page.close()


def test_it_says_the_claim_and_what_it_does_not_cover_and_loads_nothing(browser: Any, facts: dict[str, Any]) -> None:
    page = browser.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.set_content(statement_page(facts))
    assert [url for url in requested if not url.startswith(("data:", "about:"))] == []
    assert page.locator("h1").inner_text() == f"Privacy of {ODD}"
    assert page.locator("img, script, iframe, object").count() == 0
    epsilon = short_facts(facts)["epsilon"]
    assert page.locator(".claim").inner_text() == (
        f"In this one run, the weights after each step are differentially private with epsilon {epsilon} and delta "
        "1e-05: add or remove one training example; the number of training examples is public. "
        "What private values decided is not covered: the chosen weights by val/accuracy."
    )
    weights, chosen = page.locator(".note").all_inner_texts()
    assert "must not have been learned from the private data" in weights
    assert "val/accuracy" in chosen
    assert "Upper bounds of epsilon at delta 1e-05, computed for 8 numbers" in page.locator("figcaption").inner_text()
    assert page.locator(".void").count() == 0
    listed = page.locator("section", has=page.locator("h2", has_text="What is not covered")).locator("li")
    assert listed.all_inner_texts() == facts["not_covered"]
    assert page.locator("th", has_text="steps T").locator("xpath=../td").inner_text() == (
        "24 of 32 planned; 4 of them were lost in a kill or taken again, and count"
    )
    page.close()


def test_a_void_claim_says_so_first_and_large(browser: Any) -> None:
    page = shown(browser, statement_page(privacy_facts(replace(RDP, reproducible=True))))
    box = page.locator(".void strong")
    assert box.inner_text() == "Void"
    assert box.bounding_box()["y"] < page.locator(".claim").bounding_box()["y"]
    sizes = "['.void strong', 'h1'].map(name => parseFloat(getComputedStyle(document.querySelector(name)).fontSize))"
    word, heading = page.evaluate(sizes)
    assert word > heading
    assert page.locator(".claim").inner_text().startswith("This run makes no claim of differential privacy")
    assert page.locator(".curve").count() == 0
    page.close()


class _Tags(HTMLParser):
    """Checks that tags are closed in the order they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "changes", [{}, {"state": "under way"}, {"plugins": (ODD,)}, {"noise_multiplier": 0.0}, {"steps_counted": 0}]
)
def test_it_is_well_formed_and_refers_to_nothing(changes: dict[str, Any]) -> None:
    tags = _Tags()
    tags.feed(statement_page(privacy_facts(replace(RDP, initial_weights={"source": ODD}, **changes))))
    assert tags.open == []
    assert tags.references == ["data:,"]


def test_without_a_leak_the_chosen_weights_are_claimed() -> None:
    text = statement_page(privacy_facts(replace(RDP, ema=True, initial_weights=None)))
    assert "In this one run, the averaged weights (EMA) after the last step are differentially private" in text
    assert 'class="note"' not in text


def test_what_does_not_fit_is_told() -> None:
    facts = privacy_facts(replace(RDP, state="under way", target_epsilon=0.5, steps_counted=40))
    text = statement_page({**facts, "cross_check": {**facts["cross_check"], "agrees": False}})
    assert "the most steps that the run may come to, so that it holds whatever becomes of it" in text
    assert "Epsilon is above the target of 0.5." in text
    assert "Take the larger one." in text
    assert "at most 40, 32 planned" in text


def test_an_interrupted_run_claims_what_it_has_spent_so_far() -> None:
    text = statement_page(privacy_facts(replace(RDP, state="interrupted")))
    assert (
        "The run was interrupted after 24 steps; epsilon is that of the weights of its last checkpoint or before; "
        "continuing raises it."
    ) in text
    assert "24 of 32 planned" in text
    assert "In this one run, the weights after each step are" in text
    assert "<svg" not in text
    assert "There is none: the run has not ended." in text


def test_plugins_are_told_above_the_claim() -> None:
    text = statement_page(privacy_facts(replace(RDP, callbacks=("peeper",), plugins=("mine.py",))))
    above = text.split('class="claim"')[0]
    assert "What the callbacks of plugins do (peeper)" in above
    assert "Code of plugins (mine.py)" in above


@pytest.mark.parametrize(("steps", "epsilon"), [(1, 1e-6), (7, 0.034), (10**7, 4321.0)])
def test_the_curve_stays_within_its_frame(steps: int, epsilon: float) -> None:
    svg = epsilon_curve([(0, 0.0), (steps, epsilon)], steps=steps, epsilon=epsilon, target=2 * epsilon)
    points = [tuple(map(float, pair.split(","))) for pair in svg.split('points="')[1].split('"')[0].split()]
    assert points[0] == (56.0, 256.0)
    assert all(0 <= x <= 640 and 0 <= y <= 300 for x, y in points)
    assert points[-1] == (624.0, pytest.approx(136, abs=45))
    assert 3 <= svg.count('class="grid"') <= 7
