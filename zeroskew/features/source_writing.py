"""Writing to Feast's data sources: whole, or not at all.

A Parquet file is replaced in one step, a folder gets a new file under a temporary name first, Delta
and Iceberg commit. In a bucket an object appears when its upload is complete.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from zeroskew.errors import ConfigError, FeatureStoreError, SchemaError
from zeroskew.features.sources import (
    READ_ERRORS,
    _iceberg_table,
    _is_iceberg_source,
    is_delta,
    place_of,
    scan_parquet,
    storage_options,
    unreadable,
)


def append(source: Any, table: pa.Table, repo_path: Any) -> None:
    """Add rows to the table of a source; an absent Parquet table is created.

    Columns may come in any order and are brought to the table's types. Raises `SchemaError` if they
    are not the table's columns.
    """
    where = place_of(source, repo_path)
    if _is_iceberg_source(source):
        target = _iceberg_table(source)
        target.append(_fitted(table, target.schema().as_arrow(), where))
        return
    options = storage_options(source)
    if _delta(source, where):
        from deltalake import DeltaTable, write_deltalake

        schema = pa.schema(DeltaTable(where, storage_options=options or None).schema().to_arrow())
        write_deltalake(
            where, _fitted(table, schema, where), mode="append", storage_options=options or None
        )
        return
    if where.endswith(".metadata.json"):
        raise ConfigError(
            "is one version of an Iceberg table and cannot be written to",
            where=where,
            mend="use IcebergSource with the table's catalog",
        )
    filesystem, path = _filesystem(where, options)
    if _exists(filesystem, path):
        try:
            schema = (
                pl.DataFrame(schema=scan_parquet(where, options).collect_schema())
                .to_arrow(compat_level=pl.CompatLevel.oldest())
                .schema
            )
            if _is_file(filesystem, path):
                old = pq.read_table(path, filesystem=filesystem)
                table = pa.concat_tables([old, _fitted(table, old.schema, where)])
            else:
                _fitted(table, schema, where)
        except (*READ_ERRORS, pa.ArrowException) as error:
            raise unreadable(where, error) from None
    if _is_file(filesystem, path) or (path.endswith(".parquet") and not _exists(filesystem, path)):
        _write_file(table, path, filesystem)
    else:
        _write_file(table, f"{path}/part-{uuid.uuid4().hex}.parquet", filesystem)


def overwrite(source: Any, table: pa.Table, repo_path: Any, *, allow_overwrite: bool) -> None:
    """Write a table as the whole content of a source (a saved dataset).

    Raises Feast's `SavedDatasetLocationAlreadyExists` if something is there and must not go.
    """
    from feast.errors import SavedDatasetLocationAlreadyExists

    where = place_of(source, repo_path)
    options = storage_options(source)
    if _is_iceberg_source(source):
        _iceberg_table(source).overwrite(table)
        return
    filesystem, path = _filesystem(where, options)
    if not allow_overwrite and _exists(filesystem, path):
        raise SavedDatasetLocationAlreadyExists(location=where)
    if _delta(source, where):
        from deltalake import write_deltalake

        write_deltalake(where, table, mode="overwrite", storage_options=options or None)
        return
    if path.endswith(".parquet"):
        _write_file(table, path, filesystem)
        return
    if filesystem is not None:
        if _exists(filesystem, path):
            filesystem.delete_dir_contents(path)
        _write_file(table, f"{path}/part-{uuid.uuid4().hex}.parquet", filesystem)
        return
    fresh = Path(f"{path}.{uuid.uuid4().hex}.tmp")
    stale = Path(f"{path}.{uuid.uuid4().hex}.old")
    try:
        _write_file(table, str(fresh / f"part-{uuid.uuid4().hex}.parquet"), None)
        if os.path.exists(path):
            os.replace(path, stale)
        os.replace(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(stale, ignore_errors=True)


def write_log(destination: Any, table: pa.Table, repo_path: Any) -> None:
    """Add a log of served features as a new file below its destination, partitioned if asked."""
    import pyarrow.dataset as ds

    where = destination.path
    if "://" not in where:
        where = str(Path(repo_path or ".") / where)
    source = destination.to_data_source()
    filesystem, path = _filesystem(where, storage_options(source))
    if not destination.partition_by:
        _write_file(table, f"{path}/{uuid.uuid4().hex}.parquet", filesystem)
        return
    ds.write_dataset(
        table,
        base_dir=path,
        basename_template=f"{uuid.uuid4().hex}-{{i}}.parquet",
        partitioning=destination.partition_by,
        partitioning_flavor="hive",
        filesystem=filesystem,
        format="parquet",
        existing_data_behavior="overwrite_or_ignore",
    )


def _delta(source: Any, where: str) -> bool:
    from feast.data_format import DeltaFormat

    return isinstance(getattr(source, "file_format", None), DeltaFormat) or is_delta(where)


def _fitted(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """The table in the columns and types of `schema`."""
    missing = [name for name in schema.names if name not in table.column_names]
    unknown = [name for name in table.column_names if name not in schema.names]
    if missing or unknown:
        told = [f"lack {', '.join(map(repr, missing))}"] if missing else []
        told += [f"have {', '.join(map(repr, unknown))} in addition"] if unknown else []
        raise SchemaError(
            f"the rows to write {' and '.join(told)}",
            where=where,
            mend=f"the table has: {', '.join(schema.names)}",
        )
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise SchemaError(
            f"the rows to write do not fit the table's types: {error}",
            where=where,
            mend=f"the table has: {schema.to_string(show_schema_metadata=False)}",
        ) from None


def _filesystem(where: str, options: dict[str, str]) -> tuple[Any, str]:
    if "://" not in where:
        return None, where
    from pyarrow import fs

    if where.startswith(("s3://", "s3a://")):
        named = {
            "access_key": options.get("aws_access_key_id"),
            "secret_key": options.get("aws_secret_access_key"),
            "session_token": options.get("aws_session_token"),
            "region": options.get("aws_region"),
            "endpoint_override": options.get("aws_endpoint_url"),
        }
        given = {name: value for name, value in named.items() if value}
        return fs.S3FileSystem(**given), where.split("://", 1)[1]
    return fs.FileSystem.from_uri(where)


def _exists(filesystem: Any, path: str) -> bool:
    if filesystem is None:
        return os.path.exists(path)
    from pyarrow import fs

    return filesystem.get_file_info(path).type != fs.FileType.NotFound


def _is_file(filesystem: Any, path: str) -> bool:
    if filesystem is None:
        return os.path.isfile(path)
    return bool(filesystem.get_file_info(path).is_file)


def _write_file(table: pa.Table, path: str, filesystem: Any) -> None:
    if filesystem is not None:
        pq.write_table(table, path, filesystem=filesystem)
        return
    with replacing(Path(path)) as temporary:
        pq.write_table(table, temporary)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling that takes `path`'s place if the block ends well, and goes if not.

    Raises `FeatureStoreError` if the disk is full or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise FeatureStoreError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            mend="make room or correct the permissions; nothing was changed",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
