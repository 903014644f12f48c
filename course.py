"""Open, test and rebuild the course.

    python course.py lab      open the lessons in JupyterLab
    python course.py test     prove that everything works
    python course.py build    write the notebooks from notebooks/source
    python course.py book     make a web page of the solved lessons
    python course.py bench    measure speed and memory
    python course.py slides   show a lesson as slides: slides 3
    python course.py progress show what you solved, or a folder of notebooks did
    python course.py pin      write requirements.txt from pyproject.toml

Each command first makes the folder .venv with all packages, if it is missing or out of date. Further arguments go on to
the program that does the work. Needs Python 3.11 or newer and nothing else.
"""

# Older Pythons, down to 2.7, must be able to read this file, so that they can say that they are too old: no f-strings.
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
PREVIOUS = VENV + "-previous"
TRASH = VENV + "-trash"
PYTHON = os.path.join(VENV, "Scripts", "python.exe") if os.name == "nt" else os.path.join(VENV, "bin", "python")
MARKER = os.path.join(VENV, "course-setup.txt")
UNFINISHED = "unfinished"
REQUIREMENTS = os.path.join(ROOT, "requirements.txt")
GIGABYTES_NEEDED = 2.0

TOO_OLD = """The course needs Python 3.11 or newer; this is Python {}.{}. Install a newer one, or start it by its name,
like python3.12 course.py lab (on Windows: py -3.12 course.py lab)."""
SET_UP_FAILED = """
The set-up did not succeed; the lines above say why. Usual reasons:
- no network (a set-up needs one, later starts do not), or a proxy that pip does not know
- a full disk
- a Python for which a package is not made yet (this is {}.{}; 3.11 to 3.13 are tested)
Run the same command again when that is mended."""
CANNOT_WORK = """The course cannot be set up or started here: {}
Check that you may write into this folder, that the disk is not full, and that no other window is using the course.
Then run this again."""

# What numba compiles is kept beside the code. Without this, the first picture of a lesson takes some seconds longer.
COMPILE = """from course_helpers.mandelbrot import render_level
from course_helpers.nuclei import render_nuclei, true_nuclei
render_level(0), render_level(139000), render_nuclei((64, 64)), true_nuclei((64, 64))"""
# JupyterLab would begin with a question about news, look for newer versions, and show the source of the glossary.
LAB_SETTINGS = """{
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false},
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}}
}
"""
PIN = """-m uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --fork-strategy fewest
    --generate-hashes --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.txt
    --custom-compile-command 'python course.py pin'"""
COMMANDS = {
    "lab": ["-m", "jupyterlab", "--ServerApp.root_dir=" + os.path.join(ROOT, "notebooks")],
    "test": ["-m", "pytest"],
    "build": [os.path.join(ROOT, "notebooks", "source", "build.py")],
    "book": [os.path.join(ROOT, "book")],
    "bench": [os.path.join(ROOT, "bench")],
    "slides": [os.path.join(ROOT, "notebooks", "source", "slides.py")],
    "progress": ["-m", "course_helpers.exercises.collect"],
    "pin": shlex.split(PIN),
}
# Set for other environments, these would lead Python, pip and uv away from ours.
MISLEADING = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "UV_SYSTEM_PYTHON")


def fingerprint():
    """What an environment is made from and where: it is up to date as long as this text stays the same."""
    with open(REQUIREMENTS, "rb") as file:
        pins = file.read().replace(b"\r\n", b"\n")
    return hashlib.sha256(pins + LAB_SETTINGS.encode() + os.fsencode(ROOT)).hexdigest()


def write_marker(text):
    with open(MARKER, "w") as file:
        file.write(text)


def read_marker():
    if not os.path.isfile(MARKER):
        return None
    with open(MARKER) as file:
        return file.read()


def environment():
    kept = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    # A terminal in JupyterLab finds this Python first. UTF-8, because a Windows console would stumble over symbols.
    path = os.pathsep.join([os.path.dirname(PYTHON), kept.get("PATH", os.defpath)])
    return dict(kept, PATH=path, PYTHONUTF8="1")


def run(command, **options):
    """Run a command in the course's folder; True if it succeeded."""
    # close_fds=False hands the lock on: it holds until the last process of a killed set-up has ended.
    return subprocess.call(command, cwd=ROOT, env=environment(), close_fds=False, **options) == 0


def is_unfinished():
    return os.path.isdir(VENV) and (read_marker() in ("", UNFINISHED) or not os.listdir(VENV))


def is_set_up():
    """Whether .venv is finished, made from these pins for this folder, and its Python still works."""
    return (
        os.path.exists(PYTHON)
        and read_marker() == fingerprint()
        and run([PYTHON, "-I", "-c", "import course_helpers"], stderr=subprocess.DEVNULL)
    )


def make_venv():
    import venv  # here, because old Pythons lack it

    venv.create(VENV, symlinks=os.name != "nt", with_pip=True)


def install_packages():
    """Install what requirements.txt pins, hashes verified: with uv, which takes seconds, or else with pip."""
    with open(REQUIREMENTS) as file:
        pin_of_uv = re.search(r"^uv==(.*\\\n)*.*\n", file.read(), re.MULTILINE).group()
    only_uv = os.path.join(VENV, "requirements-uv.txt")
    with open(only_uv, "w") as file:
        file.write(pin_of_uv)
    options = ["install", "--require-hashes", "--requirement"]
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--retries", "2"]
    uv = [PYTHON, "-m", "uv", "pip"]
    return run(pip + ["--quiet"] + options + [only_uv]) and (
        run(uv + options + [REQUIREMENTS, "--python", PYTHON, "--compile-bytecode"])
        or run(pip + options + [REQUIREMENTS])
    )


def install_course():
    """Make `import course_helpers` work from anywhere; it stays in its folder, so that changes count at once."""
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    installed = run(pip + ["install", "--no-deps", "--no-build-isolation", "--editable", ROOT])
    if installed:
        run([PYTHON, "-c", COMPILE])  # should this fail, the loops are compiled when they are first needed
        write_lab_settings(VENV)
    return installed


def write_lab_settings(prefix):
    """Write how JupyterLab begins in the environment with this folder; what a user changes goes before it."""
    folder = os.path.join(prefix, "share", "jupyter", "lab", "settings")
    if not os.path.isdir(folder):
        os.makedirs(folder)
    with open(os.path.join(folder, "overrides.json"), "w") as file:
        file.write(LAB_SETTINGS)


def check_prerequisites():
    """End with an explanation, before anything is touched, where a set-up cannot succeed."""
    if os.path.lexists(VENV) and read_marker() is None and not is_unfinished():
        sys.exit("There is a .venv here that was not made by course.py. Rename or delete it, then run this again.")
    if os.path.realpath(sys.prefix) == os.path.realpath(VENV):
        sys.exit("The course's environment is out of date and in use. Type deactivate, then run this again.")
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        sys.exit("This Python lacks the modules venv and ensurepip. Debian, Ubuntu: sudo apt install python3-venv")
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < GIGABYTES_NEEDED:
        message = "Not enough disk space: {} GB needed, {:.1f} GB free. Make room, then run this again."
        sys.exit(message.format(GIGABYTES_NEEDED, free))


def lock():
    """Keep a second set-up out for as long as the returned file is open; Windows protects files in use by itself."""
    try:
        import fcntl
    except ImportError:
        return None
    file = open(__file__)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("The course is being set up already, in another window. Wait until that is done, then run this again.")
    os.set_inheritable(file.fileno(), True)
    return file


def discard_unfinished():
    # Renamed first: a deletion that is interrupted must not leave a .venv that looks like somebody else's.
    if is_unfinished():
        shutil.rmtree(TRASH, ignore_errors=True)
        os.rename(VENV, TRASH)
    shutil.rmtree(TRASH, ignore_errors=True)


def move_old_away():
    """Keep a finished environment until the new one works."""
    discard_unfinished()
    if os.path.isdir(VENV):
        shutil.rmtree(PREVIOUS, ignore_errors=True)
        os.rename(VENV, PREVIOUS)


def bring_old_back():
    discard_unfinished()
    if os.path.isdir(PREVIOUS) and not os.path.lexists(VENV):
        os.rename(PREVIOUS, VENV)


def set_up():
    """Make .venv anew; if that fails, explain it and leave the environment that was there before."""
    check_prerequisites()
    locked = lock()  # noqa: F841 - held until this function returns
    print("Setting up the course in .venv: once, about a minute, {} GB of disk space.".format(GIGABYTES_NEEDED))
    sys.stdout.flush()
    finished = False
    try:
        move_old_away()
        os.mkdir(VENV)
        write_marker(UNFINISHED)
        make_venv()
        if install_packages() and install_course():
            write_marker(fingerprint())
            finished = True
    finally:
        if not finished:
            bring_old_back()
    if not finished:
        kept = "\nThe environment you had is still there: {} -m jupyterlab notebooks"
        kept = kept.format(os.path.relpath(PYTHON, ROOT))
        sys.exit(SET_UP_FAILED.format(*sys.version_info[:2]) + (kept if os.path.exists(PYTHON) else ""))


def start(arguments):
    """Run the environment's Python until it ends; return its exit code."""
    process = subprocess.Popen([PYTHON] + arguments, cwd=ROOT, env=environment())
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # JupyterLab and pytest have received it too and end in their own way


def main(arguments):
    if sys.version_info < (3, 11):
        sys.exit(TOO_OLD.format(*sys.version_info[:2]))
    if not arguments or arguments[0] not in COMMANDS:
        sys.exit(__doc__.strip())
    try:
        if not is_set_up():
            set_up()
        shutil.rmtree(PREVIOUS, ignore_errors=True)
        return start(COMMANDS[arguments[0]] + arguments[1:])
    except KeyboardInterrupt:
        sys.exit("\nStopped. The next start sets the course up from the beginning.")
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(CANNOT_WORK.format(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
