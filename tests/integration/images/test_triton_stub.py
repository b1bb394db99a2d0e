"""The front reaches Triton's Python as the Triton image brings it there, by Triton's own stub."""

import os
import re
import subprocess

import pytest
from image_environments import (
    ROOT,
    install_checkout,
    installed,
    link_packages,
    make_environment,
    needed,
    pins,
    site_of,
)

from zeroskew.embedded.triton import EmbeddedTriton, triton_home
from zeroskew.errors import EmbeddedError

pytestmark = [pytest.mark.integration, pytest.mark.slow]
FOLDER = ROOT / "images/triton"
CONTAINERFILE = (FOLDER / "Containerfile").read_text()
BASE = ("nvidia-pytriton", "numpy")
"""What a base with Triton has itself."""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A Python with Triton, and the folder that the Containerfile fills: (environment, site)."""
    try:
        source = triton_home().python.parent.parent
    except EmbeddedError as error:
        pytest.skip(str(error))
    work = tmp_path_factory.mktemp("image")
    there, locked = installed(site_of(source)), pins(FOLDER / "requirements.lock")
    (asked,) = re.findall(r"-c requirements.lock \\\n\s+(.*)\n", CONTAINERFILE)
    base = {name: locked[name] for name in needed(BASE, there) if name in locked}
    ours = {name: locked[name] for name in needed(asked.split(), there) if name in locked}
    environment = make_environment(work / "venv", base, source)
    site = work / "site"
    site.mkdir()
    link_packages(site, ours, source)
    install_checkout(site, work / "source", "zeroskew")
    return environment, site


def check_front(environment, folder):
    """Run the build's check with this environment's Triton."""
    home = triton_home()
    triton = EmbeddedTriton(folder / "models", folder)
    server = site_of(environment) / "pytriton/tritonserver"
    command = [
        environment / "bin/python3", FOLDER / "check_front.py", server / "bin/tritonserver",
        f"--backend-directory={triton._backends(home)}",
    ]  # fmt: skip
    libraries = f"{home.library}:{site_of(environment) / 'nvidia_pytriton.libs'}"
    path = f"{environment / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=200,
        env=os.environ | {"PATH": path, "LD_LIBRARY_PATH": libraries, "PYTHONPATH": ""},
    )  # fmt: skip


def test_the_stub_imports_the_front_once_the_image_has_named_its_folder(image, tmp_path):
    environment, site = image
    before = check_front(environment, tmp_path / "before")
    assert before.returncode == 1
    assert "No module named 'zeroskew'" in before.stderr, before.stderr

    named = subprocess.run(
        [environment / "bin/python3", FOLDER / "add_site.py", site], capture_output=True, text=True
    )
    assert named.returncode == 0, named.stderr
    after = check_front(environment, tmp_path / "after")
    assert after.returncode == 0, after.stderr[-3000:]
    assert str(site) in after.stdout
    assert '"isolated": 1' in after.stdout, "the stub ignores PYTHONPATH; so must this test"


def test_the_build_does_what_is_tested_here():
    assert "add_site.py /opt/zeroskew/site" in CONTAINERFILE
    assert re.search(r"^RUN python3 /opt/zeroskew/check_front.py$", CONTAINERFILE, re.MULTILINE)
    assert CONTAINERFILE.index("add_site.py /opt") < CONTAINERFILE.index("RUN python3 /opt/zero")
    assert "PYTHONPATH" not in re.sub(r"#.*", "", CONTAINERFILE)
