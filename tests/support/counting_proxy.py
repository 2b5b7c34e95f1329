"""A TCP proxy on the loopback interface that counts what a client sends and can cut it off."""

import contextlib
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from urllib.parse import urlsplit


class CountingProxy:
    """Passes bytes on; `sent` counts those from clients to the server.

    Attributes:
        limit: once this many bytes went to the server, all connections are cut and new ones refused; None: never.
        at_limit: called once when that happens, before anything is cut.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 0)
        self.sent = 0
        self.limit: int | None = None
        self.at_limit: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self, limit: int | None = None, at_limit: Callable[[], None] | None = None) -> None:
        """Count from 0 again."""
        with self._lock:
            self.sent, self.limit, self.at_limit = 0, limit, at_limit

    def close(self) -> None:
        """Stop listening and cut everything."""
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.limit is not None and self.sent >= self.limit:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    client.close()
                    continue
                self._open |= {client, server}
                threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counted and self._count(len(data)):
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._open.discard(end)

    def _count(self, size: int) -> bool:
        """Add; whether the limit is passed."""
        with self._lock:
            self.sent += size
            reached = self.limit is not None and self.sent >= self.limit
            called, self.at_limit = (self.at_limit, None) if reached else (None, self.at_limit)
        if called is not None:
            called()
        if reached:
            self._cut()
        return reached

    def _cut(self) -> None:
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def counting_proxy(target: str) -> Generator[CountingProxy]:
    """A proxy to an endpoint such as `http://127.0.0.1:9000`."""
    proxy = CountingProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
