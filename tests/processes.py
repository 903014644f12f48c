"""Programs and servers that tests start: none outlives its test."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).parents[1]


def python(*arguments, cwd=ROOT, **variables):
    """A run of Python in a folder, with more variables in its environment, that has come to its end."""
    command, environment = [sys.executable, *map(str, arguments)], {**os.environ, "PYTHONUTF8": "1", **variables}
    return subprocess.run(command, capture_output=True, encoding="utf-8", cwd=cwd, env=environment, timeout=600)


def printed_by(*arguments, **options):
    """What a run of Python prints, which must end well."""
    run = python(*arguments, **options)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def loaded(path):
    """A Python file, imported as a module of its own."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def free_ports(number):
    """Ports of this machine that nobody uses now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [probe.getsockname()[1] for probe in probes]


def wait_until(condition, what, seconds=120):
    """Wait until a function of nothing returns something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (seen := condition()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.1)
    return seen


def end(process):
    """End a server, if need be by force; whether it ended when asked to."""
    process.terminate()
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


@contextmanager
def web_server(folder, error=404):
    """Serve a folder to everybody, but no list of files; for all that is not there, answer with an error."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments): ...

        def list_directory(self, path):
            self.send_error(error)

        def send_error(self, *_):
            super().send_error(error)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
