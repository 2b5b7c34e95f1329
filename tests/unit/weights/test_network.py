"""The child that reads pickles has no network."""

import subprocess
import sys

CODE = """
import socket
from tavr_weights.convert import close_network
close_network()
server = socket.socket()
for attempt in (
    lambda: server.bind(("127.0.0.1", 0)),
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: socket.getaddrinfo("localhost", 80),
):
    try:
        attempt()
    except PermissionError as error:
        print(error)
    else:
        raise SystemExit("reached the network")
"""


def test_sockets_are_refused() -> None:
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert result.stdout.count("no network while a pickle is read") == 3
