"""KFP component `join`: entity rows and features as they were known, split by time."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def join(
    model: str,
    start_time: str,
    end_time: str,
    entity_rows: dsl.Input[dsl.Dataset],
    training_set: dsl.Output[dsl.Dataset],
) -> None:
    """Build the training set: train, validation and test Parquet files and a manifest."""
    from zeroskew.steps.join import join_training_set

    training_set.metadata.update(
        join_training_set(model, start_time, end_time, entity_rows.path, training_set.path)
    )
