"""What somebody without the keys of a cluster gets to see of it."""

import os
import socket
import ssl

import psutil
import pytest
from dask.distributed import Client
from distributed.security import Security


def listening(processes):
    """The addresses at which processes wait for connections."""
    sockets = sum((process.net_connections("inet") for process in processes), [])
    return {tuple(socket.laddr) for socket in sockets if socket.status == psutil.CONN_LISTEN}


def assert_only_keys_open(cluster, before):
    """A cluster shows web pages to its machines, and is closed to all others; `before` is what was listening before."""
    with Client(cluster) as client:
        client.wait_for_workers(1, timeout=120)
        nannies = [psutil.Process(pid).parent() for pid in client.run(os.getpid).values()]
        family = {process for nanny in nannies for process in (nanny, *nanny.children(recursive=True))}
        addresses = listening({psutil.Process(), *family}) - before
    with pytest.raises(OSError):
        Client(cluster.scheduler_address, security=Security.temporary(), timeout=20)
    locks = [without_certificate(), Security.temporary().get_connection_args("client")["ssl_context"]]
    pages = {address for address in addresses if answer(address).startswith(b"HTTP/")}
    assert pages and {host for host, _ in pages} == {"127.0.0.1"}, "web pages are for the own machine"
    assert len(addresses - pages) >= 3, "scheduler, worker and nanny"
    assert not any(answer(address, lock) for address in addresses - pages for lock in (None, *locks))


def without_certificate():
    """TLS as somebody speaks it who has no certificate, and does not ask for one."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def answer(address, lock=None):
    """The first bytes that an address answers, to TLS if a context for it is given; none if it refuses."""
    try:
        with socket.create_connection(address, timeout=20) as connection:
            if lock:
                connection = lock.wrap_socket(connection)
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(100)
    except OSError:
        return b""
