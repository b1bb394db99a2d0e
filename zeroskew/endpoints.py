"""Where the stack's parts are: the only thing in which a laptop and a cluster differ.

Every value is an environment variable, so that a pod gets them from one ConfigMap (credentials
from a Secret) and a laptop from the defaults, which point below one folder, the *home*.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

PREFIX = "ZEROSKEW_"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of data, stores and services; see `from_environment` for the variables."""

    home: str
    """ZEROSKEW_HOME: folder of the embedded stack's state. Default `.zeroskew`."""
    data: str
    """ZEROSKEW_DATA: folder or s3:// prefix of the feature sources. Default `<home>/data`."""
    registry: str
    """ZEROSKEW_REGISTRY: Feast registry path or URL. Default `<home>/registry.db`."""
    redis: str
    """ZEROSKEW_REDIS: Feast connection string of the online store (`host:port[,db=0,…]`).
    Default: `unix:` socket or port of the embedded Valkey, started on demand."""
    mlflow: str
    """ZEROSKEW_MLFLOW: tracking URI. Default `sqlite:///<home>/mlflow/mlflow.db`."""
    mlflow_artifacts: str
    """ZEROSKEW_MLFLOW_ARTIFACTS: artifact root of new experiments.
    Default `<home>/mlflow/artifacts`."""
    ray: str
    """ZEROSKEW_RAY: address of a Ray cluster. Empty (default): one is started in process."""
    prediction_log: str
    """ZEROSKEW_PREDICTION_LOG: folder or s3:// prefix. Default `<home>/predictions`."""

    @classmethod
    def from_environment(cls, environment: dict[str, str] | None = None) -> Endpoints:
        """Read the `ZEROSKEW_*` variables; what is unset gets its embedded default."""
        env = os.environ if environment is None else environment
        home = str(Path(env.get(PREFIX + "HOME") or ".zeroskew").absolute())
        default = {
            "home": home,
            "data": f"{home}/data",
            "registry": f"{home}/registry.db",
            "redis": "",
            "mlflow": f"sqlite:///{home}/mlflow/mlflow.db",
            "mlflow_artifacts": f"{home}/mlflow/artifacts",
            "ray": "",
            "prediction_log": f"{home}/predictions",
        }
        return cls(
            **{name: env.get(PREFIX + name.upper()) or value for name, value in default.items()}
            | {"home": home}
        )

    def environment(self) -> dict[str, str]:
        """The variables that make another process see these endpoints (empty ones left out)."""
        values = {PREFIX + f.name.upper(): getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value}

    def export(self) -> None:
        """Set the variables in this process, so that feature_store.yaml can name them."""
        os.environ.update(self.environment())
