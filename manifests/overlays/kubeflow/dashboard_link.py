"""Adds Zeroskew to the menu of Kubeflow's dashboard; to do so again changes nothing.

    kubectl get configmap centraldashboard-config -n kubeflow -o json \
      | python3 manifests/overlays/kubeflow/dashboard_link.py | kubectl apply -f -

A program and no patch: the menu is one JSON text inside the ConfigMap, which a patch could only
replace as a whole, with everybody else's links.
"""

from __future__ import annotations

import json
import sys
from typing import Any

LINK = {
    "type": "item",
    "link": "/zeroskew/mlflow/",
    "text": "Models (Zeroskew)",
    "icon": "icons:timeline",
}


def with_link(config_map: dict[str, Any]) -> dict[str, Any]:
    """The ConfigMap with the link in its menu, and without what only the server may set.

    Raises `ValueError` if it is not the dashboard's.
    """
    try:
        links = json.loads(config_map["data"]["links"])
        menu = links["menuLinks"]
    except (KeyError, TypeError, ValueError):
        raise ValueError("this is no ConfigMap of Kubeflow's dashboard: no `links`") from None
    links["menuLinks"] = [item for item in menu if item.get("link") != LINK["link"]] + [LINK]
    metadata = {
        name: value
        for name, value in config_map["metadata"].items()
        if name in ("name", "namespace", "labels", "annotations")
    }
    data = config_map["data"] | {"links": json.dumps(links, indent=2)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def main() -> int:
    try:
        changed = with_link(json.load(sys.stdin))
    except ValueError as error:
        print(f"dashboard_link: {error}", file=sys.stderr)
        return 2
    json.dump(changed, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
