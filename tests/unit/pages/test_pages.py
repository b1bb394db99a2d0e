"""Pages: everything escaped, nothing fetched, well-formed, readable without colour or eyes."""

import html.parser
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.errors import DataError
from zeroskew.pages import (
    Badge,
    Page,
    Tile,
    bar_chart,
    horizontal_bars,
    line_chart,
    number_text,
    paired_histogram,
)

EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(2)>&'</style></title></svg>"
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Reader(html.parser.HTMLParser):
    """Keeps tags, attributes and text, and insists that every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def full_page(text):
    page = Page(text, text, badge=Badge(text, "bad"))
    page.metrics([Tile(text, text, text, "good")]).metrics({text: 1})
    page.section(text, text).text(text).note(text, "warn").code(text)
    page.table([text, "n"], [[text, 1], [Badge(text), 2]], caption=text)
    numbers = [0.0, 0.5, 1.0]
    page.figures(
        [
            (line_chart({text: (numbers, numbers), "b": (numbers, numbers)}, title=text,
                        description=text, x_label=text, y_label=text), text),
            (bar_chart([text, "b"], [1, 2], title=text, y_label=text), text),
            (paired_histogram([text, "b"], [1, 2], [2, 1], title=text, names=(text, "x")), text),
            (horizontal_bars([text], [3], title=text, limit=2, limit_label=text), text),
        ]
    )  # fmt: skip
    return page.render()


def test_injected_markup_stays_text():
    page = full_page(EVIL)
    reader = read(page)
    assert not {"script", "img", "link", "iframe", "object"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert EVIL in "".join(reader.text), "and is still readable"


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=30))
def test_any_text_makes_a_page_that_utf_8_can_hold(text):
    page = full_page(text)
    page.encode("utf-8")
    read(page)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", page)
    assert full_page("x").count("<td") == page.count("<td")


def test_a_page_fetches_nothing_and_runs_nothing():
    page = full_page("x")
    addresses = set(re.findall(r"https?://[^\"' ]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}, "only the name space of SVG"
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page


def test_text_stands_out_from_its_ground_in_light_and_dark():
    page = full_page("x")
    css = page[page.index("<style>") : page.index("</style>")]
    light = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", css.split("@media")[0]))
    dark = light | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", css.split("@media")[1]))

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a, b):
        high, low = sorted((luminance(a), luminance(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for colours in (light, dark):
        for ground in ("ground", "raised"):
            for text in ("ink", "soft", "accent", "good", "warn", "bad"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for tone in ("good", "warn", "bad"):
            assert contrast(colours[tone], colours[f"{tone}-ground"]) >= 4.5, tone
        assert contrast(colours["soft"], colours["muted-ground"]) >= 4.5
        for series in ("series-1", "series-2", "series-3", "series-4", "mute"):
            assert contrast(colours[series], colours["ground"]) >= 3, series


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=100, deadline=None)
@given(values=st.lists(NUMBERS, max_size=12), more=st.lists(NUMBERS, min_size=12, max_size=12))
def test_charts_of_any_numbers_are_well_formed_and_stay_on_the_canvas(values, more):
    labels = [f"bin {i}" for i in range(len(values))]
    counts = [abs(v) if math.isfinite(v) and abs(v) < 1e100 else 0.0 for v in values]
    finite = [v for v in values if math.isfinite(v) and abs(v) < 1e100]
    charts = [
        line_chart({"a": (counts, more[: len(counts)])}, title="t", y_range=(0, 1)),
        line_chart({"a": (finite, finite)}, title="t"),
        bar_chart(labels[: len(finite)], finite, title="t"),
        paired_histogram(labels, counts, counts[::-1], title="t"),
        horizontal_bars(labels, values, title="t", limit=0.25, scale_to=1.0),
    ]
    for chart in charts:
        root = ElementTree.fromstring(chart)
        names = [child.tag.rpartition("}")[2] for child in root]
        assert names[:2] == ["title", "desc"]
        assert root.get("role") == "img"
        _, _, width, height = map(float, root.get("viewBox").split())
        for element in root.iter():
            for name, most in (("x", width), ("width", width), ("y", height), ("height", height)):
                if element.get(name) is not None and not element.get("transform"):
                    assert -1 <= float(element.get(name)) <= most + 1, (element.tag, name)


def test_what_a_chart_shows_is_also_said():
    chart = paired_histogram(["a", "b"], [50, 50], [90, 10], title="x")
    description = ElementTree.fromstring(chart)[1].text
    assert "bin a" in description
    assert "50.0%" in description
    assert "90.0%" in description
    assert "a: 3" in ElementTree.fromstring(horizontal_bars(["a"], [3], title="x"))[1].text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1,234,567"), (0.12345678, "0.1235"), (None, "–"), (math.nan, "–"),
        (math.inf, "∞"), (-math.inf, "−∞"), (-2.5, "−2.5"), (3.0, "3"), (1234.56, "1,234.6"),
        (True, "True"), ("text", "text"),
    ],
)  # fmt: skip
def test_numbers_read_well(value, text):
    assert number_text(value) == text


def test_numbers_of_a_column_align():
    page = Page("t").table(["name", "n"], [["a", 0.5], ["b", 0.1234], ["c", None]]).render()
    cells = [unescape(c) for c in re.findall(r'<td class="r">(.*?)</td>', page)]
    assert cells == ["0.5000", "0.1234", "–"]
    assert '<td class="l">a</td>' in page


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="1 cells do not fit 2 columns"):
        Page("t").table(["a", "b"], [[1]])


def test_files_appear_whole(tmp_path):
    path = tmp_path / "deep" / "page.html"
    Page("\ud800 title").save(path)
    assert "title" in path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]
    with pytest.raises(DataError, match="cannot be written"):
        Page("t").save(path / "below-a-file.html")


def test_a_full_disk_leaves_the_old_page_and_nothing_beside_it(tmp_path):
    path = tmp_path / "page.html"
    Page("old").save(path)
    code = (
        "import resource, sys\n"
        "from zeroskew.errors import DataError\n"
        "from zeroskew.pages import Page\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try:\n    Page('new').save(sys.argv[1])\n"
        "except DataError as error:\n    sys.exit(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "page.html: cannot be written: File too large" in done.stderr
    assert "old" in path.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
