"""Open a lesson as slides whose cells run: python course.py slides 3 [options of jupyter lab]

The slides are the learners' notebook, shown by jupyterlab-rise. Which cell begins a slide is written by build.py.
"""

import sys
from pathlib import Path

from jupyterlab.labapp import LabApp

TOOLS = Path(__file__).parent
NOTEBOOKS = TOOLS.parent / "notebooks"


def serve_style(lab, initialize=LabApp.initialize_handlers):
    """Serve rise.css from here, where jupyterlab-rise looks for it beside the notebook."""
    initialize(lab)
    serve_files = lab.serverapp.web_app.settings["static_handler_class"]
    lab.handlers.append((r"/files/(rise\.css)", serve_files, {"path": str(TOOLS)}))


def lesson_notebook(number):
    """The file name of a lesson's notebook, from its number as text."""
    names = sorted(path.name for path in NOTEBOOKS.glob("[0-9]*.ipynb"))
    numbers = {int(name.split("_")[0]): name for name in names}
    if not number.isdecimal() or int(number) not in numbers:
        known = ", ".join(map(str, numbers))
        sys.exit(f"Which lesson? python course.py slides N shows one of {known}; this was {number!r}.")
    return numbers[int(number)]


def main(arguments):
    name = lesson_notebook(arguments[0] if arguments else "")
    page = f"--LabApp.default_url=/rise/{name}"
    LabApp.initialize_handlers = serve_style
    LabApp.launch_instance([f"--ServerApp.root_dir={NOTEBOOKS}", page, *arguments[1:]])


if __name__ == "__main__":
    main(sys.argv[1:])
