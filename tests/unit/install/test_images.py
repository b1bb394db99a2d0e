"""Containerfiles, the operator's lock, and what Skaffold builds."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
IMAGES = sorted(path.parent.name for path in ROOT.glob("images/*/Containerfile"))


def lines(image):
    return (ROOT / f"images/{image}/Containerfile").read_text().splitlines()


def test_there_are_four():
    assert IMAGES == ["operator", "platform", "trainer", "triton"]


@pytest.mark.parametrize("image", IMAGES)
def test_hadolint_finds_nothing(image, run_tool):
    done = run_tool("hadolint", "--no-color", f"images/{image}/Containerfile")
    assert done.returncode == 0, done.stdout
    assert done.stdout == ""


@pytest.mark.parametrize("image", IMAGES)
def test_it_ends_as_a_user_and_says_what_it_is(image):
    text = "\n".join(lines(image))
    users = re.findall(r"^USER (.*)$", text, re.MULTILINE)
    assert users[-1] == "10001:10001"
    assert f'org.opencontainers.image.title="zeroskew-{image}"' in text
    for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert base in ("${BASE}", "${PLATFORM}"), "a base must be an argument, to be pinned"
    for default in re.findall(r"^ARG (?:BASE|PLATFORM)=(\S+)", text, re.MULTILINE):
        assert re.search(r":[\w.-]+$", default)
        assert not default.endswith(":latest")
    for install in re.findall(r"pip install.*", text):
        assert "--no-cache-dir" in install or "PIP_NO_CACHE_DIR=1" in text


def pinned(path):
    text = (ROOT / path).read_text()
    return dict(re.findall(r"^([a-z0-9][\w.-]*)==(\S+)$", text, re.MULTILINE | re.IGNORECASE))


def test_the_operator_has_the_versions_of_the_platform():
    small, whole = pinned("images/operator/requirements.lock"), pinned("requirements.lock")
    assert {name: whole.get(name) for name in small} == small
    wanted = re.findall(
        r"^([a-z][\w-]*)$", (ROOT / "images/operator/requirements.txt").read_text(), re.MULTILINE
    )
    assert set(wanted) <= set(small)
    assert not set(small) & {"torch", "ray", "feast", "pandas", "kfp", "mlflow", "evidently"}


def test_skaffold_builds_every_image_and_tells_the_chart(helm):
    config = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
    assert config["apiVersion"].startswith("skaffold/v4beta")
    artifacts = {each["image"]: each for each in config["build"]["artifacts"]}
    assert set(artifacts) == {f"zeroskew-{image}" for image in IMAGES}
    assert {profile["name"] for profile in config["profiles"]} >= {"local", "gpu"}
    local = next(profile for profile in config["profiles"] if profile["name"] == "local")
    for place in (config, local):
        built = {each["image"] for each in place["build"]["artifacts"]}
        for each in place["build"]["artifacts"]:
            assert (ROOT / each["docker"]["dockerfile"]).is_file()
        (release,) = place["deploy"]["helm"]["releases"]
        values = yaml.safe_load((ROOT / release["chartPath"] / "values.yaml").read_text())
        for name, template in release["setValueTemplates"].items():
            top, image, field = name.split(".")
            assert field in values[top][image]
            assert f"zeroskew-{image}" in built
            assert template.endswith(f"_zeroskew_{image}" + "}}")
        for path in release.get("valuesFiles", []):
            assert (ROOT / path).is_file()
    gpu = next(profile for profile in config["profiles"] if profile["name"] == "gpu")
    for patch in gpu["patches"]:
        assert all((ROOT / path).is_file() for path in patch["value"])


def test_what_is_sent_to_the_builder_is_the_code_alone():
    ignored = (ROOT / ".containerignore").read_text().split()
    assert {".git", ".venv", "tests"} <= set(ignored)
    assert (ROOT / ".dockerignore").read_text() == (ROOT / ".containerignore").read_text()
    for image in IMAGES:
        for source in re.findall(r"^COPY (?!--from)(.*) \S+$", "\n".join(lines(image)), re.M):
            for path in source.split():
                assert path not in ignored
                assert (ROOT / path).exists(), path
