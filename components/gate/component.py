"""KFP component `gate`: nothing behind it runs when a validation failed."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gate(findings: dsl.Input[dsl.Artifact]) -> None:
    """Fail, with the table of what is outside its limits, if there is anything."""
    from zeroskew.steps.gate import require_passed

    require_passed(findings.path)
