"""What the documentation shows is right: blocks of code parse, name what is there, and run."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from zeroskew.errors import ZeroskewError

LANGUAGES = {"sh", "python", "yaml", "json", "toml", "text", "promql", "mermaid"}
KUBERNETES = "1.37"


@pytest.fixture(scope="session")
def crds(root):
    """Schemas of the platform's own kinds, unknown fields refused."""

    def closed(schema):
        if isinstance(schema, list):
            return [closed(each) for each in schema]
        if not isinstance(schema, dict):
            return schema
        made = {name: closed(value) for name, value in schema.items()}
        if isinstance(made.get("properties"), dict):
            made.setdefault(
                "additionalProperties", bool(made.get("x-kubernetes-preserve-unknown-fields"))
            )
        return made

    found = {}
    for path in (root / "manifests/crds").glob("zeroskew.dev_*.yaml"):
        crd = yaml.safe_load(path.read_text())["spec"]
        for version in crd["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            schema["properties"] |= {name: {} for name in ("apiVersion", "kind", "metadata")}
            found[f"{crd['group']}/{version['name']}", crd["names"]["kind"]] = schema
    return found


def told(problems):
    problems = list(problems)
    assert not problems, "\n".join(["", *problems])


def test_every_fenced_block_says_its_language(page):
    told(
        f"{block.where}: write the language after the fence, one of {', '.join(sorted(LANGUAGES))}"
        for block in page.blocks()
        if block.language and block.language not in LANGUAGES
    )


def test_links_lead_somewhere(page, root):
    problems = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.prose()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (root / page.path).parent / path if path else root / page.path
        if not file.exists():
            problems.append(f"{page.path}: the link ({target}) leads to no file")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            problems.append(f"{page.path}: the link ({target}) leads to no heading of {path}")
    told(problems)


def test_the_index_has_every_page(every_page):
    (index,) = (each for each in every_page if each.path == "docs/README.md")
    told(
        f"docs/README.md: add a row with a link to {each.path.removeprefix('docs/')}"
        for each in every_page
        if each.path.startswith("docs/") and each is not index
        if f"({each.path.removeprefix('docs/')})" not in index.text
    )


def anchors(file):
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
    words = (re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads)
    return {*words, *re.findall(r'<a (?:id|name)="([^"]+)"', file.read_text())}


def test_yaml_json_and_toml_are_what_they_say(page, crds, root):
    problems = []
    for block in page.blocks():
        try:
            if block.language == "json":
                json.loads(block.text)
            elif block.language == "toml":
                tomllib.loads(block.text)
            elif block.language == "yaml":
                for document in yaml.safe_load_all(block.text):
                    check_yaml(document, block.marker, crds, root)
        except (ValueError, yaml.YAMLError, ZeroskewError, jsonschema.ValidationError) as error:
            text = getattr(error, "message", None) or str(error)
            place = "/".join(map(str, getattr(error, "absolute_path", ())))
            problems.append(f"{block.where}: {place}: {text}")
        except kubernetes_validate.ValidationError as error:
            problems.append(f"{block.where}: {error.message}")
    told(problems)


def check_yaml(document, marker, crds, root):
    """Raises for what is not what it says, or seems, to be."""
    kind = marker.removeprefix("yaml:").strip() if marker.startswith("yaml:") else ""
    if kind:
        if kind not in KINDS:
            raise ValueError(f"`<!-- yaml: {kind} -->` is none of {', '.join(KINDS)}")
        return KINDS[kind](document, root)
    if not isinstance(document, dict):
        raise ValueError(f"say what it is: `<!-- yaml: KIND -->`, one of {', '.join(KINDS)}")
    if "apiVersion" in document:
        return check_object(document, crds, root)
    from zeroskew.model_config import ModelConfig

    if set(document) <= set(ModelConfig.model_fields):
        return check_model_yaml(document, root)
    raise ValueError(
        f"fields {', '.join(map(str, document))} are neither an object of Kubernetes nor sections "
        f"of model.yaml: say what it is by `<!-- yaml: KIND -->`, one of {', '.join(KINDS)}"
    )


def check_object(document, crds, root):
    key = document["apiVersion"], document["kind"]
    if key in crds:
        jsonschema.Draft202012Validator(crds[key]).validate(document)
        check_spec(document)
    elif document["apiVersion"].startswith("kustomize.config.k8s.io/"):
        for entry in (*document.get("resources", []), *document.get("components", [])):
            # Relative paths are those of an overlay beside the platform's own.
            if (
                entry.startswith("..")
                and not (root / "manifests/overlays/yours" / entry).resolve().exists()
            ):
                raise ValueError(f"{entry}: a folder in manifests/overlays finds no such path")
    elif key[0].startswith("zeroskew.dev"):
        raise ValueError(f"no CRD in manifests/crds is of {key[0]} {key[1]}")
    else:
        try:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            # Somebody else's kind.
            if not document.get("metadata", {}).get("name"):
                raise ValueError(f"{key[1]} has no metadata.name") from None


def check_spec(document):
    from zeroskew.monitoring.monitor_spec import parse_monitor
    from zeroskew.rollout.rollout_spec import parse_spec

    parse = {"ModelRollout": parse_spec, "DriftMonitor": parse_monitor}.get(document["kind"])
    if parse is not None:
        parse(document["spec"])


def check_model_yaml(document, root):
    """The sections, put into the example's model.yaml."""
    from zeroskew.model_config import parse_model_config

    whole = yaml.safe_load((root / "pipelines/flight_delay/model.yaml").read_text())
    parse_model_config(yaml.safe_dump(whole | document))


def check_values(document, root):
    schema = json.loads((root / "charts/zeroskew/values.schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(document)


def check_notifications(document, root):
    from zeroskew.notifications import parse_notifications

    parse_notifications(yaml.safe_dump(document))


KINDS = {
    "model.yaml": check_model_yaml,
    "values": check_values,
    "notifications": check_notifications,
    "other": lambda document, root: None,
}
"""What a block may be said to be: sections of model.yaml, values of the chart, settings of
notifications; `other` is a file of somebody else's program."""


def test_python_names_what_is_there(page):
    problems = []
    for block in page.blocks():
        if block.language != "python":
            continue
        try:
            tree = ast.parse(block.text)
        except SyntaxError as error:
            problems.append(f"{block.where}: {error}")
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and ours(node.module):
                module = importlib.import_module(node.module)
                problems += [
                    f"{block.where}: {node.module} has no {alias.name}"
                    for alias in node.names
                    if not hasattr(module, alias.name)
                ]
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if ours(alias.name):
                        importlib.import_module(alias.name)
    told(problems)


def ours(module):
    return (module or "").partition(".")[0] in {"zeroskew", "components", "pipelines", "operators"}


def test_blocks_that_can_run_do(page, root, tmp_path):
    for block in page.blocks():
        if block.marker != "run":
            continue
        folder = tmp_path / f"line-{block.line}"
        folder.mkdir()
        commands = {
            "sh": ["bash", "-euo", "pipefail", "-c", block.text],
            "python": [sys.executable, "-c", block.text],
        }
        assert block.language in commands, f"{block.where}: only sh and python can run"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            commands[block.language], cwd=folder, text=True, capture_output=True, timeout=240,
            env=os.environ | {
                "PATH": path, "PYTHONPATH": str(root), "ROOT": str(root),
                "ZEROSKEW_HOME": str(folder / "home"),
            },
        )  # fmt: skip
        assert done.returncode == 0, f"{block.where}\n{done.stdout}{done.stderr}"
