"""Where the log goes: a folder, or a prefix of an S3 bucket.

Both have two operations on small files, and in both a file appears whole or not at all, so that
who reads the log meanwhile never meets half of one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from zeroskew.errors import ConfigError

CONNECT_SECONDS, REQUEST_SECONDS = 3.0, 10.0


class Sink(Protocol):
    """Names are relative, with `/` between the parts."""

    def write(self, name: str, content: bytes) -> None:
        """Put the file there, in the place of one of that name. Raises on any failure."""

    def read(self, name: str) -> bytes | None:
        """None if there is no such file. Raises on any failure."""


def check_sink(url: str) -> str:
    """The sink as it is used from any working directory.

    Raises `ConfigError` for an address that is none.
    """
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme == "s3":
        if not urlsplit(url).netloc:
            raise ConfigError(
                f"{url!r} names no bucket", where="prediction log", mend="s3://bucket/prefix"
            )
        return url.rstrip("/")
    if scheme not in ("", "file") or not url:
        raise ConfigError(
            f"{url!r} is no place for predictions",
            where="prediction log",
            mend="give a folder or s3://bucket/prefix in ZEROSKEW_PREDICTION_LOG",
        )
    return str(Path(url.removeprefix("file://")).absolute())


def open_sink(url: str, environment: Mapping[str, str] | None = None) -> Sink:
    """A sink of `check_sink`; touches neither disk nor network."""
    if url.startswith("s3://"):
        return S3Sink(url, os.environ if environment is None else environment)
    return FolderSink(Path(url))


class FolderSink:
    """A folder; what is being written is hidden behind a dot until it is complete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, content: bytes) -> None:
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                # The segment is removed next, so that this is the only copy.
                os.fsync(file.fileno())
            partial.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise

    def read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None


class S3Sink:
    """A prefix in a bucket.

    The usual variables say how: AWS_ENDPOINT_URL, AWS_REGION or AWS_DEFAULT_REGION, and credentials
    from wherever the AWS SDK finds them. They must allow to get, put and list objects: without the
    last, S3 answers 403 for a profile that is not there yet, which is no answer to go on with.
    """

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        self._prefix = url.removeprefix("s3://")
        self._system = _s3(environment)

    def write(self, name: str, content: bytes) -> None:
        stream = self._system.open_output_stream(f"{self._prefix}/{name}")
        stream.write(content)
        stream.close()

    def read(self, name: str) -> bytes | None:
        try:
            with self._system.open_input_stream(f"{self._prefix}/{name}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None


def sink_filesystem(url: str, environment: Mapping[str, str] | None = None) -> tuple[Any, str]:
    """pyarrow's file system of a sink (see `check_sink`), and the path in it: for who reads."""
    from pyarrow import fs

    if url.startswith("s3://"):
        system = _s3(os.environ if environment is None else environment)
        return system, url.removeprefix("s3://")
    return fs.LocalFileSystem(), url


def _s3(environment: Mapping[str, str]) -> Any:
    from pyarrow import fs

    options: dict[str, str] = {}
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if endpoint:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        options["endpoint_override"] = parts.netloc + parts.path.rstrip("/")
        options["scheme"] = parts.scheme
        region = region or "us-east-1"
    if region:
        options["region"] = region
    return fs.S3FileSystem(
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        # We try again ourselves, for as long as it takes, and count it.
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
        # A small file is one PUT then, instead of an upload in parts.
        allow_delayed_open=True,
        background_writes=False,
        **options,
    )
