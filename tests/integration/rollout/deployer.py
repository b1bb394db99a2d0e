"""A process that deploys versions of a model, one after the other, and says what became of each.

python deployer.py URL MODEL VERSION…
"""

import runpy
import sys
from pathlib import Path

from zeroskew.errors import DeployError
from zeroskew.rollout.gitops_deploy import deploy
from zeroskew.rollout.gitops_remote import GitRemote

if __name__ == "__main__":
    deployment = runpy.run_path(str(Path(__file__).with_name("deployments.py")))["deployment"]
    url, model, *versions = sys.argv[1:]
    remote = GitRemote(url, author="Deploy Bot <bot@example.org>")
    print("ready", flush=True)
    sys.stdin.readline()
    for version in versions:
        try:
            done = deploy(*deployment(int(version), model), remote)
        except DeployError as error:
            print(f"{version} refused {error.what}", flush=True)
        else:
            print(f"{version} {done.outcome} {done.commit}", flush=True)
