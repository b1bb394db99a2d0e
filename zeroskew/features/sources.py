"""Feast's data sources as lazy frames: what is not asked for is not read.

| source | path or class |
|---|---|
| Parquet | `FileSource` on a file, a folder (all `*.parquet` below it, `key=value` folders become columns) or a glob |
| Delta | `FileSource` with `file_format=DeltaFormat()`, or on a folder that holds `_delta_log` |
| Iceberg | Feast's `IcebergSource` (any pyiceberg catalog), or `FileSource` on the table's current `….metadata.json` |

Each lies on disk or in a bucket (`s3://`). Credentials and endpoint come from the source
(`s3_endpoint_override`, `connection_ref`), else from the usual `AWS_*` variables.
"""  # noqa: E501

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PanicException

from zeroskew.errors import ConfigError, DataError, ZeroskewError

READ_ERRORS = (pl.exceptions.PolarsError, PanicException, OSError)
"""What Polars raises on tables that cannot be read; on some broken Parquet files it panics."""

_CASTS = pl.ScanCastOptions(
    integer_cast="upcast",
    float_cast="upcast",
    datetime_cast=["nanosecond-downcast", "convert-timezone"],
)


def scan_source(source: Any, repo_path: str | Path | None) -> pl.LazyFrame:
    """Lazy frame over a Feast data source, under the table's own column names.

    Relative paths start at `repo_path`. Rows come in the order of files and rows, the same at every
    call. Raises `DataError` for a table that is missing or unreadable, `ConfigError` for a kind of
    source that only a warehouse's offline store can read.
    """
    where = place_of(source, repo_path)
    if not is_readable(source):
        raise ConfigError(
            f"the source {source.name!r} is a {type(source).__name__}, which is no file",
            where=where,
            mend="use FileSource or IcebergSource, or the offline store of that warehouse",
        )
    try:
        if _is_iceberg_source(source):
            frame = _scan_iceberg_table(_iceberg_table(source))
        else:
            frame = _scan_file_source(source, where)
        # A table in a bucket is only asked for its columns here; better now than in mid-join.
        frame.collect_schema()
        return frame
    except ZeroskewError:
        raise
    except (Exception, PanicException) as error:
        raise unreadable(where, error) from None


def collect(frame: pl.LazyFrame, where: str) -> pl.DataFrame:
    """Read a lazy frame. Raises `DataError` that names `where` if a file does not let itself."""
    try:
        return frame.collect()
    except ZeroskewError:
        raise
    except READ_ERRORS as error:
        raise unreadable(where, error) from None


def is_readable(source: Any) -> bool:
    """Whether a source is a table of files, and not of a warehouse or a stream."""
    return hasattr(source, "file_options") or _is_iceberg_source(source)


def place_of(source: Any, repo_path: str | Path | None) -> str:
    """Where a source lies, for messages and for reading: absolute path, URL or table name."""
    if not hasattr(source, "file_options"):
        return str(getattr(source, "fqn", source.name))
    path = str(source.path)
    if "://" in path:
        return path.removeprefix("file://")
    return str(Path(repo_path or ".") / path)


def unreadable(where: str, error: BaseException) -> DataError:
    """The error for a table that is missing, cut short or no table at all."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else type(error).__name__
    missing = ("No such file", "not found", "NotFound", "NoSuchKey", "NoSuchBucket", "404")
    if isinstance(error, FileNotFoundError) or any(word in reason for word in missing):
        return DataError(
            "is not there", where=where, mend="write the table, or correct the source's path"
        )
    if "File out of specification" in reason:
        reason = f"cut short, damaged or not Parquet ({reason.removeprefix('parquet: ')})"
    return DataError(
        f"cannot be read: {reason}",
        where=where,
        mend="it may be cut short, of another format or behind other credentials; "
        "write it again or correct the source",
    )


def column_types(source: Any, repo_path: str | Path | None) -> list[tuple[str, str]]:
    """Column names and Arrow type names of a source, as Feast's inference wants them."""
    schema = scan_source(source, repo_path)
    try:
        arrow = pl.DataFrame(schema=schema.collect_schema()).to_arrow().schema
    except pl.exceptions.PolarsError as error:
        raise unreadable(place_of(source, repo_path), error) from None
    return [
        (field.name, str(field.type).replace("large_string", "string").replace("large_", ""))
        for field in arrow
    ]


# --- Parquet and Delta ---------------------------------------------------------------------------


def _scan_file_source(source: Any, where: str) -> pl.LazyFrame:
    from feast.data_format import DeltaFormat

    options = storage_options(source)
    local = "://" not in where
    if where.endswith(".metadata.json"):
        return _scan_iceberg_table(_static_iceberg_table(where, source))
    if isinstance(source.file_format, DeltaFormat) or (local and is_delta(where)):
        if local and not is_delta(where):
            raise FileNotFoundError(where)
        return pl.scan_delta(where, storage_options=options or None, credential_provider=None)
    if local and (Path(where) / "metadata").is_dir() and not glob.glob(f"{where}/*.parquet"):
        raise ConfigError(
            "is the folder of an Iceberg table, and several versions of it may lie there",
            where=where,
            mend="use IcebergSource with the table's catalog, or give the path of its current "
            "….metadata.json",
        )
    return scan_parquet(where, options)


def scan_parquet(where: str, options: dict[str, str] | None = None) -> pl.LazyFrame:
    """Lazy frame over a Parquet file, folder or glob. Raises FileNotFoundError, `DataError`."""
    local = "://" not in where
    if local and "*" not in where:
        if not os.path.exists(where):
            raise FileNotFoundError(where)
        folder = os.path.isdir(where)
    else:
        folder = "*" not in where and not where.endswith((".parquet", ".pq"))
    pattern = f"{where.rstrip('/')}/**/*.parquet" if folder else where
    if local and "*" in pattern and not glob.glob(pattern, recursive=True):
        raise DataError(
            "holds no Parquet file", where=where, mend="write the table, or correct the path"
        )
    return pl.scan_parquet(
        pattern,
        glob="*" in pattern,
        hive_partitioning=folder,
        storage_options=options or None,
        credential_provider=None if options else "auto",
        cast_options=_CASTS,
        missing_columns="insert",
        extra_columns="ignore",
    )


def is_delta(where: str) -> bool:
    """Whether a local folder is a Delta table."""
    return (Path(where) / "_delta_log").is_dir()


def storage_options(source: Any) -> dict[str, str]:
    """Credentials and endpoint for object_store (Polars, deltalake); empty for a local path."""
    if not str(getattr(source, "path", "")).startswith(("s3://", "s3a://")):
        return {}
    env = dict(os.environ) | (source.resolve_credentials() or {})
    given = {
        "aws_access_key_id": env.get("AWS_ACCESS_KEY_ID"),
        "aws_secret_access_key": env.get("AWS_SECRET_ACCESS_KEY"),
        "aws_session_token": env.get("AWS_SESSION_TOKEN"),
        "aws_region": env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION"),
        "aws_endpoint_url": source.s3_endpoint_override
        or env.get("AWS_ENDPOINT_URL_S3")
        or env.get("AWS_ENDPOINT_URL"),
    }
    options = {name: value for name, value in given.items() if value}
    endpoint = options.get("aws_endpoint_url", "")
    if endpoint:
        options.setdefault("aws_region", "us-east-1")
        options["aws_allow_http"] = "true" if endpoint.startswith("http://") else "false"
    return options


# --- Iceberg -------------------------------------------------------------------------------------


def _is_iceberg_source(source: Any) -> bool:
    return any(kind.__name__ == "IcebergSource" for kind in type(source).__mro__)


def _iceberg_table(source: Any) -> Any:
    from pyiceberg.catalog import load_catalog

    if source.catalog_type != "rest":
        catalog = source.get_catalog_client()
    else:
        token = os.environ.get(source.token_env_var) if source.token_env_var else None
        catalog = load_catalog(
            source.catalog_name,
            **{
                "type": "rest",
                "uri": source.endpoint,
                "warehouse": source.warehouse,
                **({"token": token} if token else {}),
                **source.catalog_properties,
            },
        )
    return catalog.load_table(f"{source.namespace}.{source.iceberg_table}")


def _static_iceberg_table(where: str, source: Any) -> Any:
    from pyiceberg.table import StaticTable

    return StaticTable.from_metadata(where, properties=_iceberg_properties(storage_options(source)))


def _iceberg_properties(options: dict[str, str]) -> dict[str, str]:
    names = {
        "aws_endpoint_url": "s3.endpoint",
        "aws_access_key_id": "s3.access-key-id",
        "aws_secret_access_key": "s3.secret-access-key",
        "aws_session_token": "s3.session-token",
        "aws_region": "s3.region",
    }
    return {names[name]: value for name, value in options.items() if name in names}


def _scan_iceberg_table(table: Any) -> pl.LazyFrame:
    """The table's current snapshot, fixed, so that a concurrent commit changes nothing."""
    # Without the plugin that Polars would rather plan with, it plans with pyiceberg, and warns.
    os.environ.setdefault("POLARS_ICEBERG_PLANNER", "pyiceberg")
    snapshot = table.current_snapshot()
    return pl.scan_iceberg(table, snapshot_id=snapshot.snapshot_id if snapshot else None)
