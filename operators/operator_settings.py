"""What the operator is told by its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from zeroskew.errors import ConfigError


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """See `from_environment` for the variables."""

    namespaces: tuple[str, ...] = ()
    """ZEROSKEW_NAMESPACES, comma separated; empty: the whole cluster."""
    health_port: int = 8080
    """ZEROSKEW_OPERATOR_HEALTH_PORT; 0: none."""
    metrics_port: int = 9090
    """ZEROSKEW_OPERATOR_METRICS_PORT; 0: none."""
    mlflow: str = ""
    """ZEROSKEW_MLFLOW: address of the MLflow server."""
    prediction_log: str = ""
    """ZEROSKEW_PREDICTION_LOG: folder or s3:// prefix, as the servers write it."""
    pages: str = ""
    """ZEROSKEW_PAGES: folder or s3:// prefix for the pages of analyses; empty: none are kept."""
    kfp: str = ""
    """ZEROSKEW_KFP: address of Kubeflow Pipelines' API server; empty: nothing is started."""
    kfp_multi_user: bool = False
    """ZEROSKEW_KFP_MULTI_USER: `true` where runs belong to the namespaces of their users."""
    kfp_namespace: str = "kubeflow"
    """ZEROSKEW_KFP_NAMESPACE: where runs live on a server for one user."""
    kfp_settle_seconds: float = 600.0
    """ZEROSKEW_KFP_SETTLE_SECONDS: how long a request for a run whose answer was lost may take to
    show, before it is asked for again."""
    notifications: str = ""
    """ZEROSKEW_NOTIFICATIONS: file that says who is told of what; empty: nobody."""
    workers: int = 8
    """ZEROSKEW_OPERATOR_WORKERS: rollouts, and monitors, worked on at a time."""
    relist_seconds: float = 60.0
    """ZEROSKEW_OPERATOR_RELIST_SECONDS: how often everything is listed, whatever watches said."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> OperatorSettings:
        """Raises `ConfigError` that names the variable."""
        env = os.environ if environment is None else environment
        default = cls()
        return cls(
            namespaces=tuple(
                name.strip()
                for name in env.get("ZEROSKEW_NAMESPACES", "").split(",")
                if name.strip()
            ),
            health_port=int(_number(env, "ZEROSKEW_OPERATOR_HEALTH_PORT", default.health_port)),
            metrics_port=int(_number(env, "ZEROSKEW_OPERATOR_METRICS_PORT", default.metrics_port)),
            mlflow=env.get("ZEROSKEW_MLFLOW", ""),
            prediction_log=env.get("ZEROSKEW_PREDICTION_LOG", ""),
            pages=env.get("ZEROSKEW_PAGES", ""),
            kfp=env.get("ZEROSKEW_KFP", ""),
            kfp_multi_user=_boolean(env, "ZEROSKEW_KFP_MULTI_USER"),
            kfp_namespace=env.get("ZEROSKEW_KFP_NAMESPACE", "") or default.kfp_namespace,
            kfp_settle_seconds=_number(
                env, "ZEROSKEW_KFP_SETTLE_SECONDS", default.kfp_settle_seconds
            ),
            notifications=env.get("ZEROSKEW_NOTIFICATIONS", ""),
            workers=max(1, int(_number(env, "ZEROSKEW_OPERATOR_WORKERS", default.workers))),
            relist_seconds=max(
                1.0, _number(env, "ZEROSKEW_OPERATOR_RELIST_SECONDS", default.relist_seconds)
            ),
        )

    def check(self) -> None:
        """Raises `ConfigError` for what is needed and not named, or makes no sense: now, and not
        when it is first used."""
        from operators.kfp.client import KfpClient
        from operators.registry_reader import RegistryReader
        from zeroskew.notifications import load_notifications
        from zeroskew.serving.log_sink import check_sink

        for value, name, what in (
            (self.mlflow, "ZEROSKEW_MLFLOW", "MLflow server"),
            (self.prediction_log, "ZEROSKEW_PREDICTION_LOG", "prediction log"),
        ):
            if not value:
                raise ConfigError(f"no {what} is named", where=name, mend="set it to its address")
        RegistryReader(self.mlflow)
        check_sink(self.prediction_log)
        if self.pages:
            check_sink(self.pages)
        if self.kfp:
            KfpClient(self.kfp)
        if self.notifications:
            load_notifications(self.notifications)


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e6:
        raise ConfigError(f"{text!r} is no number from 0 on", where=name)
    return value


def _boolean(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name, "").strip().lower()
    if text not in ("", "true", "false"):
        raise ConfigError(f"{text!r} is neither true nor false", where=name)
    return text == "true"
