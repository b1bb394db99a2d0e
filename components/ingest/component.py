"""KFP component `ingest`: the labelled questions of a range of time."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest(
    model: str, start_time: str, end_time: str, entity_rows: dsl.Output[dsl.Dataset]
) -> NamedTuple("Range", [("start_time", str), ("end_time", str)]):  # type: ignore[valid-type]
    """Take the entity rows of a model between two moments; relative moments become absolute."""
    from zeroskew.steps.ingest import ingest_entity_rows

    summary = ingest_entity_rows(model, start_time, end_time, entity_rows.path)
    entity_rows.metadata.update(summary)
    return summary["start_time"], summary["end_time"]
