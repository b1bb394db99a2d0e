"""Connections to the online store: Feast's connection strings, and raw exchanges with a deadline.

redis-py makes the connection (authentication, TLS, database, Sentinel, reconnection); commands and
replies then go over its socket as they are, parsed by hiredis. For a read of 50 features that is a
third of the time that redis-py's own pipeline needs. A cluster client goes through redis-py's
pipeline, which knows where each key lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel

from zeroskew.errors import ConfigError, FeatureStoreError, OnlineStoreUnavailable

STORE_ERRORS = (redis.RedisError, RedisClusterException, OSError)
"""What a client raises when the store is not there; the cluster's own error is no RedisError."""
CONNECT_SECONDS = 2.0
READ_SECONDS = 1.0
PASSWORD = "ZEROSKEW_REDIS_PASSWORD"  # noqa: S105 (the name of a variable)
REFUSED = f"correct {PASSWORD}, or user and password in the connection string"
_RECEIVE = 1 << 18


def parse_connection_string(text: str) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Feast's `host:port[,host:port…][,parameter=value…]`: nodes and redis-py's parameters.

    Raises `ConfigError` on a node without a host or a port.
    """
    nodes: list[tuple[str, int]] = []
    parameters: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = part.partition("=")
        if equals:
            try:
                parameters[name] = json.loads(value)
            except ValueError:
                parameters[name] = value
            continue
        host, colon, port = part.rpartition(":")
        if not (colon and host and port.isdigit() and 0 < int(port) < 65_536):
            raise ConfigError(
                f"`{part}` is no host:port",
                where="connection string of the online store",
                mend="write it as `localhost:6379` or `redis:6379,db=1,password=…`",
            )
        nodes.append((host, int(port)))
    if not nodes:
        raise ConfigError(
            "names no server",
            where="connection string of the online store",
            mend="write it as `localhost:6379`, in feature_store.yaml or ZEROSKEW_REDIS",
        )
    return nodes, parameters


def connect(
    connection_string: str, *, redis_type: str = "redis", sentinel_master: str = "mymaster"
) -> redis.Redis | RedisCluster:
    """A client for Feast's connection string. Nothing is sent before its first use.

    `redis_type` and `sentinel_master` are the fields of Feast's Redis online store. A string
    without a password gets that of the environment's ZEROSKEW_REDIS_PASSWORD, so that it need not
    be a secret itself. Raises `ConfigError` on a string or parameter that cannot be one.
    """
    nodes, given = parse_connection_string(connection_string)
    if (password := os.environ.get(PASSWORD)) and "password" not in given:
        given["password"] = password
    given.pop("decode_responses", None)
    parameters = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": 30.0, **given}
    try:
        if redis_type == "redis_cluster":
            return RedisCluster(startup_nodes=[ClusterNode(h, p) for h, p in nodes], **parameters)
        parameters.setdefault("protocol", 2)
        if redis_type == "redis_sentinel":
            return Sentinel(nodes, **parameters).master_for(sentinel_master)
        host, port = nodes[0]
        return redis.Redis(host=host, port=port, **parameters)
    except TypeError as error:
        raise ConfigError(
            f"a parameter that redis-py does not know: {error}",
            where="connection string of the online store",
        ) from None
    except STORE_ERRORS as error:
        raise unavailable(connection_string.split(",")[0], error) from None


def address_of(client: Any) -> str:
    """`host:port` of a client, for messages."""
    if isinstance(client, RedisCluster):
        nodes = client.get_nodes()
        return nodes[0].name if nodes else "the cluster"
    settings = client.connection_pool.connection_kwargs
    if "path" in settings:
        return str(settings["path"])
    return f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"


def unavailable(address: str, error: BaseException | str) -> OnlineStoreUnavailable:
    """The error for a store that does not answer."""
    why = str(error) or type(error).__name__
    mend = "start it (`zeroskew up` on a laptop), or correct ZEROSKEW_REDIS"
    if isinstance(error, redis.AuthenticationError):
        mend = REFUSED
    return OnlineStoreUnavailable(
        f"the online store does not answer: {why}", where=address, mend=mend
    )


def bulk(data: bytes) -> bytes:
    """`data` as a RESP bulk string."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


class Wire:
    """Raw pipelined exchanges over one connection per thread."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.address = address_of(client)
        self._local = threading.local()

    def exchange(
        self,
        payload: bytes,
        replies: int,
        *,
        seconds: float = READ_SECONDS,
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Any]:
        """Send packed commands and wait for as many replies; server errors come as values.

        `meanwhile` is called once the commands are on their way.

        The commands must be safe to repeat: a connection that turns out to be dead (an idle one
        that the server closed, a server that restarted) is made anew once within the deadline.
        Raises `OnlineStoreUnavailable` when the deadline is over or nobody listens.
        """
        deadline = time.monotonic() + seconds
        for attempt in (0, 1):
            fresh = False
            try:
                connection, fresh = self._connection(deadline)
                return self._talk(connection, payload, replies, deadline, meanwhile)
            except TimeoutError:
                self._drop()
                raise unavailable(self.address, f"no answer within {seconds:g} s") from None
            except redis.TimeoutError as error:
                self._drop()
                raise unavailable(self.address, error) from None
            except (OSError, redis.ConnectionError, hiredis.ProtocolError) as error:
                self._drop()
                if attempt or fresh or isinstance(error, redis.AuthenticationError):
                    raise unavailable(self.address, error) from None
            except redis.RedisError as error:
                self._drop()
                raise unavailable(self.address, error) from None
            except BaseException:
                # Ctrl-C between a command and its reply: the next caller must not get that reply.
                self._drop()
                raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close this thread's connection."""
        self._drop()

    def _connection(self, deadline: float) -> tuple[Any, bool]:
        local = self._local
        connection = getattr(local, "connection", None)
        if connection is not None and local.pid == os.getpid() and connection._sock is not None:
            return connection, False
        # Of the pool's kind, but not out of the pool: redis-py would try for many seconds.
        pool: Any = self.client.connection_pool
        connection = pool.make_connection()
        connection.retry = Retry(NoBackoff(), 0)
        left = max(deadline - time.monotonic(), 0.001)
        connection.socket_connect_timeout = min(left, CONNECT_SECONDS)
        connection.socket_timeout = left
        connection.connect()
        local.connection, local.pid = connection, os.getpid()
        local.reader = hiredis.Reader()
        # One buffer for good: a fresh one of this size is memory mapped and unmapped per call.
        local.buffer = bytearray(_RECEIVE)
        return connection, True

    def _talk(
        self,
        connection: Any,
        payload: bytes,
        replies: int,
        deadline: float,
        meanwhile: Callable[[], None] | None,
    ) -> list[Any]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock = connection._sock
        sock.settimeout(left)
        sock.sendall(payload)
        if meanwhile is not None:
            meanwhile()
        return _read(sock, self._local.reader, self._local.buffer, replies, deadline)

    def _drop(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            return
        self._local.connection = None
        with contextlib.suppress(Exception):
            connection.disconnect()


def _read(sock: Any, reader: Any, buffer: bytearray, replies: int, deadline: float) -> list[Any]:
    answers: list[Any] = []
    nothing = False
    get = reader.gets
    while True:
        while len(answers) < replies:
            answer = get()
            if answer is nothing:
                break
            answers.append(answer)
        if len(answers) == replies:
            return answers
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        size = sock.recv_into(buffer)
        if not size:
            raise ConnectionError("the server closed the connection")
        reader.feed(buffer, 0, size)


def raise_server_error(replies: Sequence[Any], address: str) -> None:
    """Raise `FeatureStoreError` for the first server error among `replies`."""
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError | redis.ResponseError):
            text = str(reply)
            if text.startswith(("LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN")):
                raise unavailable(address, text)
            mend = None
            if text.startswith("OOM"):
                mend = "give the server more memory, or set `key_ttl_seconds`"
            elif text.startswith("READONLY"):
                mend = "name the primary in the connection string, not a replica"
            elif text.startswith("WRONGTYPE"):
                mend = "another program uses the same keys: give the store a database of its own"
            elif text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
                mend = REFUSED
            elif text.startswith("MISCONF"):
                mend = "the server cannot save: free its disk"
            raise FeatureStoreError(f"the server refused: {text}", where=address, mend=mend)
