"""Compile every model's pipelines to `Pipeline` and `PipelineVersion` manifests, with schedules.

    python -m pipelines.compile --out build/manifests \\
      --image ghcr.io/me/zeroskew-platform:1f3a9c2 \\
      --trainer-image ghcr.io/me/zeroskew-trainer:1f3a9c2

A PipelineVersion cannot be changed once it is in the cluster, so its name says what is in it: the
code's commit and a hash of the whole spec. The same code gives the same bytes; anything that
differs gets a new name, and a PipelineSchedule without a fixed version follows the newest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from google.protobuf import json_format
from kfp.dsl.graph_component import GraphComponent

from pipelines.batch_prediction import batch_prediction_pipeline
from pipelines.consistency_audit import consistency_audit_pipeline
from pipelines.deployment import Deployment
from pipelines.live_performance import live_performance_pipeline
from pipelines.materialisation import materialisation_pipeline
from pipelines.pod import Images
from pipelines.rollback import rollback_pipeline
from pipelines.schedules import schedule_documents
from pipelines.training import training_pipeline
from zeroskew.errors import ConfigError, PipelineError
from zeroskew.model_config import load_model_config
from zeroskew.record import code_sha
from zeroskew.rollout.names import check_versions
from zeroskew.steps.files import write_text

ROOT = Path(__file__).parent.parent
FACTORIES: Mapping[str, Callable[[str | Path, Images | None], GraphComponent]] = {
    "training": training_pipeline,
    "materialisation": materialisation_pipeline,
    "batch-prediction": batch_prediction_pipeline,
    "consistency-audit": consistency_audit_pipeline,
    "live-performance": live_performance_pipeline,
    "rollback": rollback_pipeline,
}
API_VERSION = "pipelines.kubeflow.org/v2beta1"
UNKNOWN = "unknown"
"""What `code_sha` says outside a git repository."""
MAX_BYTES = 250_000
"""`kubectl apply` keeps a copy of the object in its annotations, which may have 256 KiB in all (and
etcd takes 1.5 MiB); a thin pipeline has a few dozen KiB."""
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_MOVING_TAGS = ("latest", "main", "master", "dev", "stable", "edge", "nightly")
_SOURCES = ("*.py", "*.yaml")


@dataclass(frozen=True, slots=True)
class Code:
    """Which code a manifest is made of."""

    sha: str
    """Git commit, with `-dirty` when the working tree differs."""
    tree: str
    """Hash of the files that the images of the steps are built from."""
    url: str = ""

    @property
    def tag(self) -> str:
        """Short, never moved, fit for an image tag and a DNS name."""
        sha, _, dirty = self.sha.partition("-")
        known = not dirty and sha != UNKNOWN
        return sha[:12] if known else f"{sha[:12]}-{self.tree[:8]}"

    @classmethod
    def of(cls, root: Path, url: str = "") -> Code:
        return cls(code_sha(root), _tree_hash(root), url)


def manifests(
    pipeline: GraphComponent, code: Code, *, namespace: str = "", model: str
) -> list[dict[str, Any]]:
    """The `Pipeline` and the `PipelineVersion` of a compiled pipeline.

    Raises `PipelineError` for a name that Kubernetes refuses or a spec too large for it.
    """
    spec = json_format.MessageToDict(pipeline.pipeline_spec)
    platform = json_format.MessageToDict(pipeline.platform_spec)
    name = pipeline.pipeline_spec.pipeline_info.name
    described = pipeline.pipeline_spec.pipeline_info.description
    # A version cannot be changed: whatever it says of itself is part of its name.
    said: dict[str, Any] = {
        "pipelineName": name,
        "description": described,
        "pipelineSpec": spec,
        "platformSpec": platform,
    }
    if code.url:
        said["codeSourceURL"] = code.url
    _check_text(name, said)
    content = hashlib.sha256(
        json.dumps([said, {"model": model, "code": code.sha}], sort_keys=True).encode()
    ).hexdigest()
    dirty = "-dirty" if code.sha.endswith("-dirty") else ""
    version = f"{code.sha.partition('-')[0][:12]}{dirty}-{content[:8]}"
    labels = {
        "app.kubernetes.io/part-of": "zeroskew",
        "app.kubernetes.io/managed-by": "zeroskew",
        "zeroskew.dev/model": model,
        "zeroskew.dev/code": code.sha[:63],
    }
    _check_names(name, f"{name}-{version}", version, labels)
    place = {"namespace": namespace} if namespace else {}
    tags = {"model": model, "code": code.sha, "spec": content}
    version_spec = said | {"versionName": version, "displayName": version, "tags": tags}
    documents = [
        {
            "apiVersion": API_VERSION,
            "kind": "Pipeline",
            "metadata": {"name": name, "labels": _without_code(labels), **place},
            "spec": {
                "displayName": name,
                "description": described,
                "tags": {"model": model},
            },
        },
        {
            "apiVersion": API_VERSION,
            "kind": "PipelineVersion",
            "metadata": {"name": f"{name}-{version}", "labels": labels, **place},
            "spec": version_spec,
        },
    ]
    size = len(json.dumps(documents[1]).encode())
    if size > MAX_BYTES:
        raise PipelineError(
            f"the compiled pipeline has {size:,} bytes, Kubernetes keeps at most {MAX_BYTES:,}",
            where=name,
            mend="move code out of component functions into the library",
        )
    return documents


def compile_models(
    models: list[Path],
    out: Path,
    images: Images,
    code: Code,
    *,
    namespace: str = "",
    root: Path = ROOT,
    deployment: Deployment | None = None,
) -> list[Path]:
    """Write `<out>/<model>/<pipeline>.yaml` for each model folder and pipeline, and
    `schedules.yaml` where model.yaml has any.

    With a `deployment`, training ends with the commit that brings a winner to its users.

    The folder's path below `root` is what the steps find inside the platform image. Raises
    `ConfigError` before anything is written, if no version of a model could be served where the
    deployment goes.
    """
    if deployment is not None:
        for folder in models:
            check_versions(load_model_config(folder).name, 1, deployment.namespace)
    written = []
    for folder in models:
        made: dict[str, GraphComponent] = {}
        for kind, factory in FACTORIES.items():
            try:
                inside = folder.resolve().relative_to(root.resolve())
            except ValueError:
                raise ConfigError(
                    f"is not below {root}, so it is not inside the platform's image",
                    where=str(folder),
                    mend="move the model's folder to pipelines/<model>",
                ) from None
            with contextlib.chdir(root):
                if kind == "training" and deployment is not None:
                    pipeline = training_pipeline(inside, images, deployment)
                else:
                    pipeline = factory(inside, images)
            made[kind] = pipeline
            documents = manifests(pipeline, code, namespace=namespace, model=folder.name)
            path = out / folder.name / f"{kind}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, yaml.safe_dump_all(documents, sort_keys=True, width=100))
            written.append(path)
        written += _write_schedules(folder, made, out / folder.name, namespace)
    return written


def _write_schedules(
    folder: Path, pipelines: Mapping[str, GraphComponent], out: Path, namespace: str
) -> list[Path]:
    path = out / "schedules.yaml"
    documents = schedule_documents(
        load_model_config(folder), pipelines, namespace=namespace, where=str(folder / "model.yaml")
    )
    if not documents:
        # What an earlier compilation left here would still be applied.
        path.unlink(missing_ok=True)
        return []
    write_text(path, yaml.safe_dump_all(documents, sort_keys=True, width=100))
    return [path]


def model_folders(root: Path = ROOT) -> list[Path]:
    """Every folder below `pipelines/` with a model.yaml."""
    return sorted(path.parent for path in (root / "pipelines").glob("*/model.yaml"))


def check_image(image: str, where: str = "--image") -> str:
    """The image, if its name can only ever mean one image. Raises `ConfigError`."""
    name, at, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if at and re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        return image
    if at or not tag or tag in _MOVING_TAGS:
        raise ConfigError(
            f"{image!r} may be another image tomorrow",
            where=where,
            mend="give a tag that is never moved, such as the commit, or a digest (@sha256:…): "
            "a node keeps the image that it has, and a version must mean one code",
        )
    return image


def _check_names(pipeline: str, name: str, version: str, labels: Mapping[str, str]) -> None:
    # KFP writes the pipeline's name into a label, which is the tighter limit.
    if len(pipeline) > 63:
        raise PipelineError(
            f"the name has {len(pipeline)} letters, KFP keeps it in a label of at most 63",
            where=pipeline,
            mend="give the model a shorter name",
        )
    for text in (pipeline, name, version):
        if len(text) > 253 or not _SUBDOMAIN.fullmatch(text):
            raise PipelineError(f"{text!r} is not a DNS-1123 name", where=pipeline)
    for key, value in labels.items():
        if not _LABEL.fullmatch(value):
            raise PipelineError(f"{value!r} cannot be the label {key}", where=pipeline)


def _check_text(pipeline: str, said: Mapping[str, Any]) -> None:
    """KFP's database keeps the spec of each run, and nothing beyond the basic plane of Unicode: it
    would begin the run, answer 500 and keep no row of it."""
    text = json.dumps(said, ensure_ascii=False)
    if wrong := sorted({letter for letter in text if ord(letter) > 0xFFFF}):
        raise PipelineError(
            f"has characters that Kubeflow Pipelines cannot keep: {' '.join(wrong[:5])}",
            where=pipeline,
            mend="take them out of its description, its parameters' defaults and its components",
        )


def _without_code(labels: Mapping[str, str]) -> dict[str, str]:
    """A Pipeline outlives its versions, and so do its labels."""
    return {key: value for key, value in labels.items() if key != "zeroskew.dev/code"}


def _tree_hash(root: Path) -> str:
    """Hash over path and content of what the image's Python code consists of."""
    total = hashlib.sha256()
    for path in _sources(root):
        total.update(path.relative_to(root).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _sources(root: Path) -> Iterator[Path]:
    found = {root / "pyproject.toml", *(root / "images").glob("*/requirements.lock")}
    for folder in ("zeroskew", "components", "pipelines"):
        for pattern in _SOURCES:
            found.update((root / folder).rglob(pattern))
    yield from sorted(path for path in found if path.is_file())


def main(
    models: Annotated[list[Path] | None, typer.Argument(help="Folders; else all.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("build/manifests"),
    image: Annotated[
        str,
        typer.Option(
            envvar="ZEROSKEW_IMAGE",
            help="Platform image. Default: zeroskew-platform, tagged with the code's commit.",
        ),
    ] = "",
    trainer_image: Annotated[
        str,
        typer.Option(
            envvar="ZEROSKEW_TRAINER_IMAGE",
            help="Image of the steps train, export and drift_report. To be given with --image. "
            "Default: zeroskew-trainer, tagged with the code's commit.",
        ),
    ] = "",
    namespace: Annotated[
        str,
        typer.Option(
            help="Namespace to write into the manifests. Default: for one user, the one that "
            "Kubeflow Pipelines runs in; for several, none, which `kubectl -n` then names."
        ),
    ] = "",
    multi_user: Annotated[
        bool,
        typer.Option(
            "--multi-user/--single-user",
            envvar="ZEROSKEW_KFP_MULTI_USER",
            help="Whether Kubeflow Pipelines serves several users, each in a namespace.",
        ),
    ] = False,
    kfp_namespace: Annotated[
        str,
        typer.Option(
            envvar="ZEROSKEW_KFP_NAMESPACE", help="Where Kubeflow Pipelines runs, for one user."
        ),
    ] = "kubeflow",
    code_url: Annotated[str, typer.Option(help="Where the code can be read.")] = "",
    models_url: Annotated[
        str,
        typer.Option(
            help="Where versions are kept for serving, such as s3://models. With --serving-image "
            "and --serving-namespace, training ends with the commit that deploys a winner."
        ),
    ] = "",
    serving_image: Annotated[str, typer.Option(help="Triton with the front model.")] = "",
    serving_namespace: Annotated[str, typer.Option(help="Namespace of the ModelRollouts.")] = "",
    deliver: Annotated[
        str, typer.Option(help="`merge` the commit, or leave a `branch` for a merge request.")
    ] = "merge",
    request: Annotated[
        str, typer.Option(help="Who opens the merge request: none, gitlab or github.")
    ] = "none",
) -> None:
    """Write the manifests of every model's pipelines, for `kubectl apply -f`.

    Example: python -m pipelines.compile --image ghcr.io/me/zeroskew-platform:1f3a9c2
    --trainer-image ghcr.io/me/zeroskew-trainer:1f3a9c2
    """
    code = Code.of(ROOT, code_url)
    images = _images(image, trainer_image, code)
    paths = compile_models(
        [path.absolute() for path in models or []] or model_folders(),
        out, images, code, namespace=namespace if multi_user else _home(namespace, kfp_namespace),
        deployment=_deployment(models_url, serving_image, serving_namespace, deliver, request),
    )  # fmt: skip
    for path in paths:
        typer.echo(path)


def _images(platform: str, trainer: str, code: Code) -> Images:
    """Both from the command line, or both by their default names."""
    if platform and not trainer:
        raise ConfigError(
            "is missing: the steps train and export need torch, which the platform's image lacks",
            where="--trainer-image",
            mend="give the trainer's image of the same code, "
            "such as ghcr.io/me/zeroskew-trainer:1f3a9c2",
        )
    platform = check_image(platform or f"zeroskew-platform:{code.tag}")
    return Images(
        platform=platform,
        trainer=check_image(trainer or f"zeroskew-trainer:{code.tag}", "--trainer-image"),
        environment={"ZEROSKEW_CODE_SHA": code.sha, "ZEROSKEW_IMAGE": platform},
    )


def _home(namespace: str, kfp_namespace: str) -> str:
    """Where pipelines of a server for one user must be: it takes a Pipeline elsewhere, refuses its
    versions, and shows neither."""
    if namespace not in ("", kfp_namespace):
        raise ConfigError(
            f"Kubeflow Pipelines for one user knows pipelines in {kfp_namespace!r} only",
            where=f"--namespace {namespace}",
            mend="leave the namespace out, say --multi-user if each user has a namespace, or name "
            "the one that it runs in with --kfp-namespace",
        )
    return kfp_namespace


def _deployment(
    models: str, image: str, namespace: str, mode: str, request: str
) -> Deployment | None:
    given = {
        "--models-url": models, "--serving-image": image, "--serving-namespace": namespace
    }  # fmt: skip
    if not any(given.values()):
        return None
    if missing := [name for name, value in given.items() if not value]:
        raise ConfigError(
            "a deployment needs all three of " + ", ".join(given),
            where=", ".join(missing),
            mend="give them, or none for a pipeline that ends with the registered version",
        )
    if mode not in ("merge", "branch") or request not in ("none", "gitlab", "github"):
        raise ConfigError(f"{mode!r} with {request!r} is no way to deliver", where="--deliver")
    return Deployment(models, check_image(image), namespace, mode, request)


if __name__ == "__main__":
    from zeroskew.cli.shell import run

    run(main)
