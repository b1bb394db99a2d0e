"""A wire to a server that can be cut, or go silent as a network does that lost its memory."""

import contextlib
import socket
import threading


class Wire:
    """Passes TCP on to a port of this host, from a `port` of its own, while it is entered."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        self._silent = False

    def __enter__(self) -> "Wire":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self.cut()

    def cut(self) -> int:
        """Every connection ends now; new ones are taken. Returns how many ended."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2

    def silence(self, silent: bool) -> None:
        """While silent, nothing passes and nothing ends. What was open then stays open and silent
        for ever; only new connections pass afterwards."""
        self._silent = silent

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                lost = threading.Event()
                with self._lock:
                    self._ends += (near, far)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(
                        target=self._pass, args=(source, sink, lost), daemon=True
                    ).start()

    def _pass(self, source: socket.socket, sink: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._silent:
                    lost.set()
                if not lost.is_set():
                    sink.sendall(data)
        if not lost.is_set():
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
