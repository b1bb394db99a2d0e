"""KFP component `drift_report`: Evidently's page about the window of a decision."""

from kfp import dsl

from components.image import TRAINER_IMAGE


@dsl.component(base_image=TRAINER_IMAGE, install_kfp_package=False)
def drift_report(model: str, decision: str, page: dsl.Output[dsl.HTML]) -> None:
    """Show what a monitor has decided about, for people; nothing is decided by it."""
    from zeroskew.steps.drift_report import write_drift_report

    write_drift_report(model, decision, page.path)
