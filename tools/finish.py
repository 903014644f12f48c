"""Complete the environment whose Python runs this: it finds course_helpers, and the first picture comes soon."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# JupyterLab would begin with a question about news, look for newer versions, and show the source of the glossary.
LAB_SETTINGS = """{
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false},
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}}
}
"""


def lead_to_course(packages):
    """Let Python look for modules in the course's folder, too; by a relative path, so that both may move together."""
    try:
        way = os.path.relpath(ROOT, packages)
    except ValueError:  # another drive of Windows
        way = str(ROOT)
    (Path(packages) / "course.pth").write_text(way, encoding="utf-8")


def write_lab_settings(prefix):
    """Write how JupyterLab begins in the environment with this folder; what a user changes goes before it."""
    folder = Path(prefix, "share", "jupyter", "lab", "settings")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "overrides.json").write_text(LAB_SETTINGS, encoding="utf-8")


def warm_up():
    """Import and compile what a first start needs: Python and numba keep it, else it takes some seconds more."""
    import distributed  # noqa: F401
    import ipykernel.kernelapp  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import stackview  # noqa: F401

    from course_helpers.mandelbrot import render_level
    from course_helpers.nuclei import seed_nuclei
    from course_helpers.slide import render_nuclei, true_nuclei

    render_level(0), render_level(139000), true_nuclei((64, 64)), seed_nuclei(render_nuclei((64, 64)), threshold=25)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:] == ["warm-up"]:
        warm_up()
    else:
        lead_to_course(sysconfig.get_path("purelib"))
        write_lab_settings(sys.prefix)
        # Beside the first start, which need not wait for it.
        subprocess.Popen([sys.executable, __file__, "warm-up"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
