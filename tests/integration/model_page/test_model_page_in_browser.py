"""The page as a browser shows it: nothing fetched, nothing run, readable on every screen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zeroskew.pages.model_page import model_page
from zeroskew.steps.model_page import facts_of

EVIL = "\"><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"

LUMINANCE = """
(() => {
  const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return parse(getComputedStyle(document.body).backgroundColor);
  };
  return [...document.querySelectorAll('SELECTOR')].map(element => {
    const pair = [light(parse(getComputedStyle(element).color)), light(ground(element))];
    return [element.className, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)];
  });
})()
"""
OVERFLOWING = """
[...document.querySelectorAll('main > *, header > *')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.outerHTML.slice(0, 80))
"""


@pytest.fixture
def page(past, tmp_path, monkeypatch) -> Path:
    past.settle(monkeypatch)
    path = tmp_path / "page.html"
    found = facts_of(past.model)
    assert found.problems == {}
    model_page(found).save(path)
    return path


def test_it_is_shown_as_it_was_written(browser, page):
    browser.size(1280, 900)
    browser.open(page)
    assert browser.value("document.title") == "orders"
    assert browser.value("document.querySelector('h1').innerText") == "orders drifted"
    heads = browser.value("[...document.querySelectorAll('h2')].map(e => e.innerText)")
    assert heads == [
        "Drift by feature and day", "Scores", "Freshness", "Live performance", "Audits",
        "Decisions", "Rollouts", "Versions", "Lineage",
    ]  # fmt: skip
    first = "document.querySelector('.heat tbody tr')"
    assert browser.value(f"{first}.children[0].innerText") == "feature_3"
    heats = browser.value(f"[...{first}.querySelectorAll('td')].slice(1).map(e => e.className)")
    assert set(heats[:3]) <= {"h-cool", "h-mild"}
    assert set(heats[3:]) == {"h-burning"}
    assert browser.value("document.querySelectorAll('svg.chart').length") >= 7
    assert browser.value("document.querySelectorAll('polygon.band').length") == 1


def test_it_loads_nothing_and_complains_of_nothing(browser, page):
    browser.open(page)
    assert browser.fetched() == [page.as_uri()]
    assert browser.complaints() == []


def test_hostile_names_do_nothing(browser, past, tmp_path, monkeypatch):
    from dataclasses import replace

    past.settle(monkeypatch)
    found = facts_of(past.model)
    (history,) = found.histories
    columns = {EVIL if n == "feature_3" else n: c for n, c in history.reference.columns.items()}
    served = {EVIL if n == "feature_3" else n: c for n, c in history.served.columns.items()}

    def renamed(period):
        features = {EVIL if n == "feature_3" else n: f for n, f in period.features.items()}
        return replace(period, features=features)

    history = replace(
        history, reference=replace(history.reference, columns=columns),
        served=replace(history.served, columns=served), overall=renamed(history.overall),
        periods=tuple(map(renamed, history.periods)),
    )  # fmt: skip
    reports = tuple(replace(each, message=EVIL, version=EVIL) for each in found.decisions)
    path = tmp_path / "page.html"
    links = {EVIL: "javascript:window.hacked=3", "x": EVIL}
    model_page(
        replace(found, model=EVIL, histories=(history,), decisions=reports, analyses=links,
                problems={"consistency": EVIL})
    ).save(path)  # fmt: skip
    browser.open(path)
    browser.value("document.querySelectorAll('a').forEach(a => a.hash || a.click())")
    assert browser.value("window.hacked") is None
    assert browser.complaints() == []
    assert browser.fetched() == [path.as_uri()]
    assert browser.value("document.querySelector('h1').innerText").startswith('"><script>')
    assert browser.value("document.querySelector('.heat tbody th').innerText") == EVIL
    assert browser.value("document.querySelectorAll('img, script').length") == 0


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_sticks_out_whatever_the_screen(browser, page, width):
    browser.size(width, 800, mobile=width < 500)
    browser.open(page)
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(OVERFLOWING) == []
    box = "document.querySelector('.heat').parentElement"
    name = f"{box}.querySelector('tbody th').getBoundingClientRect()"
    last = f"{box}.querySelector('tbody tr').lastElementChild.getBoundingClientRect()"
    assert browser.value(f"{name}.left") >= 0
    assert browser.value(f"{last}.right") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(browser, page, scheme):
    browser.size(1280, 900)
    browser.scheme(scheme)
    browser.open(page)
    dark = browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 31)"
    assert dark == (scheme == "dark")
    texts = ".heat td, .heat th, .badge, td, th, p, dd, dt, .chain b, .chain span, a, summary"
    found = browser.value(LUMINANCE.replace("SELECTOR", texts))
    browser.scheme("light")
    assert len(found) > 150
    assert [(name, ratio) for name, ratio in found if ratio < 4.5] == []


def test_every_band_stands_out_from_its_ground(browser, past, tmp_path):
    from zeroskew.pages import Page
    from zeroskew.pages.heat_map import HeatCell, HeatMap, HeatRow

    heats = ("none", "unsure", "cool", "mild", "warm", "hot", "burning")
    cells = [HeatCell("0.1", heat) for heat in heats]
    path = tmp_path / "bands.html"
    Page("x").draw(HeatMap([("", h) for h in heats], [HeatRow("f", cells)], "c")).save(path)
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        browser.open(path)
        found = browser.value(LUMINANCE.replace("SELECTOR", ".heat td"))
        assert len(found) == len(heats)
        assert [(name, ratio) for name, ratio in found if ratio < 4.5] == [], scheme
    browser.scheme("light")


def test_a_month_fits_on_paper(browser, past, tmp_path, monkeypatch):
    from dataclasses import replace

    past.settle(monkeypatch)
    found = facts_of(past.model)
    (history,) = found.histories
    month = replace(history, periods=history.periods * 5)
    path = tmp_path / "page.html"
    model_page(replace(found, histories=(month,))).save(path)
    browser.size(720, 1000)
    browser.media("print")
    browser.open(path)
    wide = browser.value("document.documentElement.scrollWidth")
    cells = (
        "[...document.querySelectorAll('.heat td, .heat th')].map(e => e.getBoundingClientRect())"
    )
    ends = browser.value(f"{cells}.map(box => [box.left, box.right])")
    browser.media("")
    assert wide <= 720
    assert len(ends) > 30 * 12
    assert min(left for left, _ in ends) >= 0
    assert max(right for _, right in ends) <= 720


def test_it_can_be_printed_and_pictured(browser, page):
    browser.size(1280, 900)
    browser.open(page)
    assert browser.print().startswith(b"%PDF")
    picture = browser.picture()
    assert picture.startswith(b"\x89PNG")
    if folder := os.environ.get("ZEROSKEW_TEST_PICTURES"):
        (Path(folder) / "model_page.png").write_bytes(picture)
