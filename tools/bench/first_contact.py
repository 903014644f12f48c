"""From a finished set-up to the first picture of every lesson, and what the helpers cost to import.

python course.py bench first_contact

A lesson is opened as Jupyter opens it: a kernel is started and its cells are executed, up to the first one that shows a
picture. "cold" is the very first time, when numba compiles the helpers' loops; "warm" is every later time. Times of
imports are the best of three processes, beside plain dask, matplotlib and stackview, which every lesson uses.
"""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
HELPERS = sorted(f"course_helpers.{path.stem}" for path in (NOTEBOOKS.parent / "course_helpers").glob("[a-z]*.py"))
MODULES = ["numpy", "dask.array", "matplotlib.pyplot", "stackview", "course_helpers.exercises", *HELPERS]
IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def import_seconds(module):
    """Time of one import in a process of its own."""
    command = [sys.executable, "-c", IMPORT.format(module)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def shows_picture(cell):
    kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
    html = "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)
    return "image/png" in kinds or "<img" in html


def opening_seconds(path, cache):
    """Times from starting a kernel: until it runs, until the first cell is done, until the first picture is there."""
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "COURSE_PROGRESS": "off"}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": NOTEBOOKS}})
    start, times = time.perf_counter(), []
    with client.setup_kernel(env=environment):
        times.append(time.perf_counter() - start)
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                client.execute_cell(cell, index)
                if len(times) == 1:
                    times.append(time.perf_counter() - start)
                if shows_picture(cell):
                    return [*times, time.perf_counter() - start]
    return [*times, float("nan")]


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
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={NOTEBOOKS}", *options]
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
    print("\nseconds until          kernel   imports   picture")
    with tempfile.TemporaryDirectory() as cache:
        for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
            for state in ("cold", "warm"):
                times = "".join(f"{value:10.1f}" for value in opening_seconds(path, cache))
                print(f"lesson {path.stem[:2]} {state:8}{times}", flush=True)
    print("\nseconds to import")
    rounds = [[import_seconds(module) for module in MODULES] for _ in range(3)]
    for module, *values in zip(MODULES, *rounds):
        print(f"{module:40}{min(values):6.2f}")


if __name__ == "__main__":
    main()
