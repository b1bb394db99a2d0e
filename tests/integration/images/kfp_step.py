"""One step of a compiled pipeline, started as KFP's launcher starts it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from image_root import ARTIFACTS, Ended, ImageRoot


@dataclass
class Step:
    """What a step left behind."""

    name: str
    ended: Ended
    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)


class Launcher:
    """Starts steps of compiled manifests in the roots of the images that they name."""

    def __init__(self, manifests: list[Path], roots: dict[str, ImageRoot], folder: Path):
        """`folder` is what every root shows as ARTIFACTS; `roots` are by the image's name."""
        self.roots, self.folder = roots, folder
        self.components: dict[str, Any] = {}
        self.executors: dict[str, Any] = {}
        for path in manifests:
            for document in yaml.safe_load_all(path.read_text()):
                if document["kind"] == "PipelineVersion":
                    spec = document["spec"]["pipelineSpec"]
                    self.components |= spec["components"]
                    self.executors |= spec["deploymentSpec"]["executors"]

    @property
    def names(self) -> set[str]:
        return {name.removeprefix("exec-") for name in self.executors if name != "exec-gate-2"}

    def run(
        self,
        name: str,
        parameters: dict[str, Any],
        artifacts: dict[str, Any] | None = None,
        **variables: str,
    ) -> Step:
        component = self.components[f"comp-{name}"]
        container = self.executors[f"exec-{name}"]["container"]
        place = f"{ARTIFACTS}/{name}"
        own = self.folder / name
        own.mkdir(exist_ok=True)
        own.chmod(0o777)
        declared = component.get("outputDefinitions", {})
        outputs = {
            key: {
                "artifacts": [
                    {
                        "name": key,
                        "type": kind["artifactType"],
                        "uri": f"{place}/{key}",
                        "metadata": {},
                    }
                ]
            }
            for key, kind in declared.get("artifacts", {}).items()
        }
        executor_input = {
            "inputs": {
                "parameterValues": parameters,
                "artifacts": {
                    key: {"artifacts": [value]} for key, value in (artifacts or {}).items()
                },
            },
            "outputs": {
                "parameters": {
                    key: {"outputFile": f"{place}/{key}.parameter"}
                    for key in declared.get("parameters", {})
                },
                "artifacts": outputs,
                "outputFile": f"{place}/output.json",
            },
        }
        told = json.dumps(executor_input)
        words = [word.replace("{{$}}", told) for word in container["command"] + container["args"]]
        ended = self.roots[container["image"]].run(self.folder / f"{name}.log", *words, **variables)
        step = Step(name, ended)
        if (own / "output.json").is_file():
            result = json.loads((own / "output.json").read_text())
            step.parameters = result.get("parameterValues", {})
            for key, found in result.get("artifacts", {}).items():
                step.artifacts[key] = found["artifacts"][0]
        for key, listed in outputs.items():
            step.artifacts.setdefault(key, listed["artifacts"][0])
        return step
