"""One self-contained HTML page for whoever wants to see rather than read logs.

    page = Page("Training set", "flight_delay, April to June 2013")
    page.metrics([Tile("Rows", 84_231), Tile("Late", "22.4 %")])
    page.section("Drift").table(["Column", "PSI"], [["humidity", 0.29]])
    page.figure(line_chart({"model": (fpr, tpr)}, title="ROC", x_label="False positive rate"))
    page.save("report.html")

No script, no font, no image from elsewhere: a page works in a sandboxed frame, offline and in mail.
Whatever a caller passes in is text and is escaped; only charts, badges and marks are markup.
`model_page` is the page of a model; its sections are the modules `model_*` beside it.
"""

from zeroskew.pages.charts import (
    Svg,
    bar_chart,
    horizontal_bars,
    line_chart,
    paired_histogram,
)
from zeroskew.pages.page import Badge, Page, Tile, number_text

__all__ = [
    "Badge",
    "Page",
    "Svg",
    "Tile",
    "bar_chart",
    "horizontal_bars",
    "line_chart",
    "number_text",
    "paired_histogram",
]
