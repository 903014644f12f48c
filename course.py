"""Open, test and rebuild the course.

    python course.py lab      open the lessons in JupyterLab
    python course.py test     tell whether the course works on this computer; --all: test everything
    python course.py progress show what you solved, or a folder of notebooks did
    python course.py run      run a notebook without opening it, such as your copy of lesson 8: run notebooks/mine.ipynb
    python course.py kernel   offer the course in a Jupyter that is there already, such as a JupyterHub
    python course.py slides   show a lesson as slides: slides 3
    python course.py book     make a web page of the solved lessons
    python course.py build    write the notebooks from the folder sources
    python course.py bench    measure speed and memory
    python course.py pin      write requirements.txt and requirements-dev.txt from pyproject.toml

Each command first puts the packages it needs into the folder .venv, if they are missing or out of date. Further arguments
go on to the program that does the work. Needs Python 3.11 to 3.14 and nothing else.
"""

# Older Pythons, down to 2.7, must be able to read this file, so that they can say that they are too old: no f-strings.
import os
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
OLDEST, NEWEST = (3, 11), (3, 14)
if OLDEST <= sys.version_info[:2]:  # others cannot read it
    from tools import environment

WRONG_PYTHON = """The course needs Python 3.11 to 3.14; this is Python {}.{}. Install one of these, and start it by its name:
python3.14 course.py lab (on Windows: py -3.14 course.py lab)."""
CANNOT_WORK = """The course cannot be set up or started here: {}
Check that you may write into this folder, that the disk is not full, and that no other window is using the course.
Then run this again."""
ROOT_SAID = (
    "You are root: JupyterLab gets --allow-root. It asks for a token, and without --ip it answers this computer only."
)

COMMANDS = {
    "lab": ["-m", "jupyterlab", "--ServerApp.root_dir=" + os.path.join(ROOT, "notebooks")],
    "test": ["-m", "pytest"],
    # Where a cluster sets PYTHONPATH for its own Python, the kernel must not find those packages.
    "kernel": ["-m", "ipykernel", "install", "--user", "--name=larger-than-memory", "--env", "PYTHONPATH", ""]
    + ["--display-name=Larger than memory"],
    "run": ["-m", "jupyter", "execute", "--inplace"],
    "progress": ["-m", "tools.progress"],
    "slides": ["-m", "tools.slides"],
    "book": ["-m", "tools.book"],
    "build": ["-m", "tools.build"],
    "bench": ["-m", "tools.bench"],
    "pin": ["-m", "tools.pin"],
}
# What these need beyond the packages of everybody, course.py installs when they are first called.
GROUPS = ("test", "slides", "book", "build", "bench")


def start(arguments):
    """Run the environment's Python until it ends; return its exit code."""
    process = subprocess.Popen([environment.PYTHON] + arguments, cwd=ROOT, env=environment.variables())
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # JupyterLab and pytest have received it too and end in their own way


def main(arguments):
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.exit(WRONG_PYTHON.format(*sys.version_info[:2]))
    if not arguments or arguments[0] not in COMMANDS:
        sys.exit(__doc__.strip())
    name, arguments = arguments[0], arguments[1:]
    try:
        everything = name == "test" and "--all" in arguments
        if everything:
            arguments = ["course_helpers", "tests", "notebooks/solutions"] + [
                text for text in arguments if text != "--all"
            ]
        environment.provide(["setup"] + (["all"] if everything else [name] if name in GROUPS else []))
        if name in ("lab", "slides") and hasattr(os, "geteuid") and os.geteuid() == 0:
            environment.say(ROOT_SAID)
            arguments = arguments + ["--allow-root"]
        return start(COMMANDS[name] + arguments)
    except KeyboardInterrupt:
        sys.exit("\nStopped. The next start goes on where this one stopped.")
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(CANNOT_WORK.format(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
