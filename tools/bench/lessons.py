"""What a learner waits for: JupyterLab, the first picture, "Run All" of a lesson, and the checks of its exercises.

python course.py bench lessons [--full]

Each solved lesson is executed in a kernel of its own, as Jupyter does it, in the folder of the learners' notebooks. Seconds
count from the start of the kernel. Below a lesson are the seconds of its checks, all of right answers; behind one that
takes longer than a second stands whether it said what it is doing before a second was over. With --full, the first picture
is also waited for as the very first time, when numba compiles the helpers' loops.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import nbformat
from nbclient import NotebookClient

from tools.bench._timing import claim
from tools.build import LEARNERS, SOLUTIONS, parts


class Watched(NotebookClient):
    """Executes the cells of a notebook, and notes when they print."""

    def process_message(self, message, cell, index):
        if message["msg_type"] == "stream":
            self.printed = self.printed or time.perf_counter()
        return super().process_message(message, cell, index)

    def cells_done(self, **environment):
        """Yield code cells when they are done: with the seconds since the start, since theirs, and until they printed."""
        start = time.perf_counter()
        with self.setup_kernel(env={**os.environ, **environment}):
            for index, cell in enumerate(self.nb.cells):
                if cell.cell_type == "code":
                    self.printed, begun = None, time.perf_counter()
                    self.execute_cell(cell, index)
                    now = time.perf_counter()
                    yield cell, now - start, now - begun, (self.printed or now) - begun


def opened(path):
    """A solved lesson, and what executes it where learners do."""
    notebook = nbformat.read(path, as_version=4)
    return notebook, Watched(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(LEARNERS)}}
    )


def shows_picture(cell):
    shown = [output.get("data", {}) for output in cell.outputs]
    return any("image/png" in data or "<img" in data.get("text/html", "") for data in shown)


def waited_for(path, **environment):
    """Seconds until the first picture, the end of the core, and that of the lesson; then a text for each check."""
    notebook, client = opened(path)
    in_core = {cell.id for cell in parts(notebook.cells)[0]}
    pictures, core, checks = [], 0, []
    for cell, since_start, took, silent in client.cells_done(**environment):
        if shows_picture(cell):
            pictures.append(since_start)
        if cell.id in in_core:
            core = since_start
        if check := re.search(r'^exercise\("(.*?)"\)\.check\(', cell.source, re.M):
            said = "" if took <= 1 else " (silent)" if silent > 1 else " (says what it is doing)"
            checks.append(f"{check[1]}: {took:.1f}{said}")
    return min(pictures), core, since_start, checks


def first_picture(path, **environment):
    """Seconds until the first picture."""
    _, client = opened(path)
    return next(since_start for cell, since_start, *_ in client.cells_done(**environment) if shows_picture(cell))


def wait_for(address):
    """Return when a server answers; it prints its address a moment before."""
    for _ in range(600):
        try:
            return urllib.request.urlopen(address).close()
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"nothing answers at {address}")


def server_seconds():
    """Time from starting JupyterLab until it answers."""
    options = ["--no-browser", "--ServerApp.port=0", "--IdentityProvider.token=bench", "--allow-root"]
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={LEARNERS}", *options]
    start = time.perf_counter()
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        for line in server.stderr:
            if "http://127.0.0.1" in line:
                wait_for(line.split()[-1].replace("/lab?", "/api?").replace("...", "bench"))
                return time.perf_counter() - start
    finally:
        server.terminate()
        server.communicate()
    raise RuntimeError("JupyterLab ended before it answered")


def main():
    print(f"JupyterLab answers after {server_seconds():.1f} s")
    print("\nseconds until     picture      core     whole", flush=True)
    silent = 0
    for path in sorted(SOLUTIONS.glob("[0-9]*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:  # checks are counted there: else they would say nothing
            *times, checks = waited_for(path, COURSE_DATA=folder, COURSE_PROGRESS="")
            print(f"lesson {path.stem[:2]}      {''.join(f'{seconds:10.1f}' for seconds in times)}")
            print(f"  checks: {', '.join(checks)}", flush=True)
            silent += sum("silent" in check for check in checks)
            claim(f"lesson {path.stem[:2]}: seconds of the core", "", times[1], "<= 15")
            claim(f"lesson {path.stem[:2]}: seconds of the whole", "", times[2], "<= 40")
            if "--full" in sys.argv:
                print(f"  cold:   {first_picture(path, NUMBA_CACHE_DIR=folder):17.1f}", flush=True)
    claim("checks of right answers silent for over a second", "", silent, "<= 0")


if __name__ == "__main__":
    main()
