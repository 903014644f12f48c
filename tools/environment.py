"""The environment of the course in the folder .venv: course.py makes it and brings it up to date, with nothing but Python."""

import ast
import errno
import hashlib
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
TRASH = VENV + "-trash"
PYTHON = os.path.join(VENV, "Scripts", "python.exe") if os.name == "nt" else os.path.join(VENV, "bin", "python")
FINISH = os.path.join(ROOT, "tools", "finish.py")
GIGABYTES_NEEDED = 1.5
UNFINISHED = "unfinished"

INTEL_MAC = """On a Mac, the course needs an Apple chip and a Python made for it: packages for Intel chips are made no more.
Without an Apple chip, use the course in a browser, with Binder or a JupyterHub."""
SET_UP_FAILED = """
The set-up did not succeed; the lines above say why. Usual reasons:
- no network (a set-up needs one, later starts do not), a proxy or certificate that pip is not
  told of, or a mirror that lacks a package
- a full disk
- another window that uses the course, if files cannot be replaced
Run the same command again when that is mended: it goes on where it stopped."""
# The pins of everybody, and of the further packages that a group of pyproject.toml names, by the group's command.
PINS, PINS_OF_GROUPS = os.path.join(ROOT, "requirements.txt"), os.path.join(ROOT, "requirements-dev.txt")

# Set for other environments, these would lead Python, pip and uv away from ours, or make each start slow.
MISLEADING = ("PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")
MISLEADING += ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "UV_SYSTEM_PYTHON")
# What pip may be told (in its files, or by PIP_INDEX_URL and the like), and by which names uv is told the same.
SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "find-links": ("UV_FIND_LINKS",),
    "cert": ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "proxy": ("ALL_PROXY",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "no-index": ("UV_NO_INDEX",),
}


def say(text):
    print(text, flush=True)  # before what the programs print that follow


def variables():
    """The variables with which the course's Python is started."""
    kept = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    # A terminal in JupyterLab finds this Python first. UTF-8, because a Windows console would stumble over symbols.
    path = os.pathsep.join([os.path.dirname(PYTHON), kept.get("PATH", os.defpath)])
    kept.update(PATH=path, PYTHONUTF8="1")
    if not is_usable(os.path.expanduser("~")):  # pip, uv and JupyterLab keep settings and caches there
        kept.update(HOME=os.path.join(VENV, "home"), UV_NO_CACHE="1")
    return kept


def is_usable(folder):
    """Whether files can be written and locked there; some network drives know no locks."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if os.name != "nt":
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def run(command, **options):
    """Run a command in the course's folder; True if it succeeded."""
    options.setdefault("env", variables())
    # close_fds=False hands the lock on: it holds until the last process of a killed set-up has ended.
    return subprocess.call(command, cwd=ROOT, close_fds=False, **options) == 0


def marker(group):
    return os.path.join(VENV, f"course-{group}.txt")


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def fingerprint(group):
    """What the packages of a group are made from: they are up to date as long as this text stays the same."""
    text = b""
    for path in [FINISH, PINS] + ([] if group == "setup" else [PINS_OF_GROUPS]):
        with open(path, "rb") as file:
            text += file.read().replace(b"\r\n", b"\n")
    return hashlib.sha256(text).hexdigest()


def read(path):
    if not os.path.isfile(path):
        return None
    with open(path) as file:
        return file.read()


def is_installed(group):
    return read(marker(group)) == fingerprint(group)


def works(*arguments):
    """Whether the Python in .venv is there and can do this."""
    nothing = subprocess.DEVNULL
    return os.path.exists(PYTHON) and run([PYTHON, "-I", *arguments], stdout=nothing, stderr=nothing)


def check_prerequisites():
    """End with an explanation, before anything is touched, where a set-up cannot succeed."""
    if (
        os.path.lexists(VENV)
        and not os.path.isfile(marker("setup"))
        and not (os.path.isdir(VENV) and not os.listdir(VENV))
    ):
        sys.exit("There is a .venv here that was not made by course.py. Rename or delete it, then run this again.")
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        sys.exit(INTEL_MAC)
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        sys.exit("This Python lacks the modules venv and ensurepip. Debian, Ubuntu: sudo apt install python3-venv")
    free = shutil.disk_usage(ROOT).free / 1e9
    if not os.path.exists(PYTHON) and free < GIGABYTES_NEEDED:
        sys.exit(
            f"Not enough disk space: {GIGABYTES_NEEDED} GB needed, {free:.1f} GB free. Make room, then run this again."
        )


def lock():
    """Keep a second set-up out for as long as the returned file is open."""
    file = open(VENV + "-lock", "a")  # open for writing: network drives refuse to lock what is open for reading
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.set_inheritable(file.fileno(), True)
    except OSError as error:  # any other: a drive that knows no locks
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES):
            sys.exit("The course is being set up in another window. Wait until that is done, then run this again.")
    return file


def make_venv():
    import venv  # here, because Debian may lack it

    if os.path.isdir(VENV):
        shutil.rmtree(TRASH, ignore_errors=True)
        os.rename(VENV, TRASH)  # a deletion that is interrupted must not leave a .venv that looks like somebody else's
    write(marker("setup"), "")
    venv.create(VENV, symlinks=os.name != "nt", with_pip=True)
    shutil.rmtree(TRASH, ignore_errors=True)


def told():
    """The environment in which pip and uv are told the same, whichever of the two the user has told."""
    result = variables()
    result.setdefault("XDG_CONFIG_HOME", os.path.join(os.path.expanduser("~"), ".config"))  # also if HOME leads away
    listed = subprocess.check_output([PYTHON, "-m", "pip", "config", "list"], cwd=ROOT, env=result).decode()
    of_pip = {}
    for place in ("global", "install", ":env:"):  # each goes before the one before it
        found = re.findall(rf"^{place}\.([a-z-]+)=(.+?)\r?$", listed, re.MULTILINE)
        of_pip.update((option, ast.literal_eval(value)) for option, value in found)
    for option, names in SETTINGS.items():
        value = of_pip.get(option) or next((result[name] for name in names if result.get(name)), "")
        parts = [os.path.expanduser(part) for part in value.split()]
        if parts and option != "proxy":
            result.setdefault("PIP_" + option.upper().replace("-", "_"), " ".join(parts))
        if parts:
            result.setdefault(names[0], ("," if option == "find-links" else " ").join(parts))
    # uv would trust its own certificates only, and stop at the first mirror that has another version of a package.
    paths = ssl.get_default_verify_paths()
    if not sys.platform.startswith("linux") or paths.cafile or paths.capath and os.listdir(paths.capath):
        result.setdefault("UV_SYSTEM_CERTS", "1")
    result.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    result["PIP_USER"] = "0"
    return result


def install(group, again):
    """Install what is pinned, hashes verified and nothing compiled, with uv, which takes seconds."""
    with open(PINS) as file:
        pin_of_uv = re.search(r"^uv==(.*\\\n)*.*\n", file.read(), re.MULTILINE).group()
    only_uv = os.path.join(VENV, "requirements-uv.txt")
    write(only_uv, pin_of_uv)
    options = ["--require-hashes", "--only-binary", ":all:", "--requirement"]
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--retries", "2", "--quiet", "install"]
    uv = [PYTHON, "-m", "uv", "pip", "install", "--python", PYTHON]
    of_group = [] if group == "setup" else ["--group", group, "--constraint", PINS_OF_GROUPS, "--no-binary", "pims"]
    env = told()
    if env.get("UV_NO_INDEX", "").lower() in ("1", "true", "yes", "on"):  # uv reads no such variable
        uv.append("--no-index")
    if again:  # where copying was interrupted, uv takes half a package for a whole one
        uv.append("--reinstall")
    return run(pip + options + [only_uv], env=env) and run(uv + options + [PINS] + of_group, env=env)


def set_up(group):
    """Make .venv, or bring it up to date. What was there stays as it is until all that is new has arrived."""
    new = not works("-m", "pip", "--version")
    size = f", once, about a minute, {GIGABYTES_NEEDED} GB of disk space" if new else ""
    say(f"Setting up the course in .venv{size}.")
    if new:
        make_venv()
    again = read(marker(group)) == UNFINISHED
    write(marker(group), UNFINISHED)
    if not install(group, again) or group == "setup" and not run([PYTHON, FINISH]):
        kept = f"\nThe packages you had are still there: {os.path.relpath(PYTHON, ROOT)} -m jupyterlab notebooks"
        sys.exit(SET_UP_FAILED + (kept if works("-c", "import jupyterlab, course_helpers") else ""))
    write(marker(group), fingerprint(group))


def provide(groups):
    """Set up those groups of packages that are missing or out of date."""
    for group in groups:
        if not is_installed(group) or group == "setup" and not works("-c", "import course_helpers"):
            check_prerequisites()
            with lock():
                set_up(group)
