"""Environments as the images have them, once for the session."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from image_environments import (
    ROOT,
    install_checkout,
    installed,
    link_packages,
    make_environment,
    pins,
    site_of,
)

CODE = ("zeroskew", "components", "pipelines", "operators")


def slim(environment):
    return runpy.run_path(str(ROOT / "images/platform/slim.py"))["slim"](environment)


@pytest.fixture(scope="session")
def code(tmp_path_factory):
    """/opt/zeroskew of the platform's and of the operator's image."""
    folder = tmp_path_factory.mktemp("code")
    nothing = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pipelines", folder / "platform/pipelines", ignore=nothing)
    # How well it learns is another test's: one trial, one epoch.
    settings = folder / "platform/pipelines/flight_delay/model.yaml"
    text = settings.read_text()
    for long, short in {
        "trials: 6": "trials: 1", "search_epochs: 3": "search_epochs: 1",
        "search_rows: 40000": "search_rows: 5000", "  epochs: 8": "  epochs: 1",
    }.items():  # fmt: skip
        assert long in text
        text = text.replace(long, short)
    settings.write_text(text)
    for name in ("zeroskew", "operators"):
        shutil.copytree(ROOT / name, folder / "operator" / name, ignore=nothing)
    return {
        "platform": folder / "platform",
        "trainer": folder / "platform",
        "operator": folder / "operator",
    }


@pytest.fixture(scope="session")
def environments(tmp_path_factory):
    """/opt/venv of each image, by its name, as its Containerfile makes it."""
    source = Path(sys.prefix)
    there = installed(site_of(source))
    folder = tmp_path_factory.mktemp("environments")
    locks = {
        name: pins(ROOT / f"images/{name}/requirements.lock")
        for name in ("platform", "trainer", "operator")
    }
    made = {
        "platform": make_environment(folder / "platform", locks["platform"], source),
        "operator": make_environment(folder / "operator", locks["operator"], source),
        # The trainer's image starts from the platform's.
        "trainer": make_environment(folder / "trainer", locks["platform"], source),
    }
    for name in ("platform", "trainer"):
        slim(made[name])
        install_checkout(site_of(made[name]), folder / f"source-{name}", *CODE)
    more = locks["trainer"].items() - locks["platform"].items()
    # What a CUDA build of torch brings, where this machine has one.
    own = {n for n in there if n.startswith(("nvidia-", "cuda-")) or n == "triton"}
    link_packages(
        site_of(made["trainer"]),
        dict(more) | {each: there[each].version for each in own} | {"ray": locks["trainer"]["ray"]},
        source,
    )
    return made
