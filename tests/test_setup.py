"""The frame of the course: pinned packages, course.py, Binder, README and glossary agree with each other."""

import ast
import errno
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from jupyter_client.manager import start_new_kernel
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from processes import ROOT, loaded, printed_by, python

from tools import build as builder

SOURCES = sorted((ROOT / "sources").glob("*.md"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS_TEXT = (ROOT / "requirements.txt").read_text(encoding="utf-8")
GROUPS_TEXT = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
REPIN = "pyproject.toml and requirements.txt disagree: run python course.py pin"
TOOLS = ("tools/__init__.py", "tools/environment.py", "tools/finish.py")
windows = os.name == "nt"


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """Skip where no package can be looked up; in CI that is a failure."""
    command = ["-m", "uv", "pip", "install", "--dry-run", "--quiet", "--no-cache", "six", "--target"]
    asked = python(*command, tmp_path_factory.mktemp("target"))
    if asked.returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs a network: {asked.stderr}")


# ---------------------------------------------------------------------------------------------- pinned packages


def pins(text):
    """The requirement and the lines of each pin in a requirements file."""
    blocks = re.findall(r"^[A-Za-z0-9].*\n(?:[ ].*\n)*", text, flags=re.MULTILINE)
    return [(Requirement(block.splitlines()[0].removesuffix("\\")), block) for block in blocks]


def direct(group=None):
    """What pyproject.toml names for learners, or for a group and the groups in it."""
    if group is None:
        return [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    return [
        requirement
        for entry in PROJECT["dependency-groups"][group]
        for requirement in (direct(entry["include-group"]) if isinstance(entry, dict) else [Requirement(entry)])
    ]


def names(requirements):
    return {canonicalize_name(requirement.name) for requirement in requirements}


def test_pins_are_those_that_pin_writes(tmp_path, network):
    """They hold all that is named in pyproject.toml, and what this requires in turn, for every system and Python."""
    (tmp_path / "tools").mkdir()
    for name in ("pyproject.toml", "requirements.txt", "requirements-dev.txt", "tools/pin.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    printed_by(tmp_path / "tools" / "pin.py")
    for name, text in [("requirements.txt", PINS_TEXT), ("requirements-dev.txt", GROUPS_TEXT)]:
        written = (tmp_path / name).read_text(encoding="utf-8")
        assert [str(pin) for pin, _ in pins(written)] == [str(pin) for pin, _ in pins(text)], REPIN


def test_what_is_named_is_pinned_and_installed():
    """Also where no network tells what this requires in turn."""
    pinned = [pin for text in (PINS_TEXT, GROUPS_TEXT) for pin, _ in pins(text)]
    for requirement in direct() + direct("all"):
        if requirement.marker is None or requirement.marker.evaluate():
            installed = importlib.metadata.version(requirement.name)
            fits = [pin for pin in pinned if names([pin]) == names([requirement]) and pin.specifier.contains(installed)]
            assert fits and requirement.specifier.contains(installed), f"{requirement} is not pinned. {REPIN}"


@pytest.mark.parametrize("text", [PINS_TEXT, GROUPS_TEXT], ids=["requirements.txt", "requirements-dev.txt"])
def test_pins_are_exact_hashed_and_without_addresses(text):
    assert len(pins(text)) > 100 and "python course.py pin" in text.splitlines()[1]
    for pin, block in pins(text):
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)) and pin.url is None, pin
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), f"{pin} has no hash"
    assert not re.search(r"://|file:|--(extra-)?index|--find-links|[\w-]\.(org|com|net|io|dev)\b", text)
    assert not re.search(r"^-", text, flags=re.MULTILINE)


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize(
    "system", ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "windows", "aarch64-apple-darwin"]
)
def test_there_are_wheels_for_every_system_and_python(system, version, tmp_path, network):
    """Nothing is ever compiled. (pims, which only `bench` needs, is pure Python.)"""
    command = ["-m", "uv", "pip", "install", "--dry-run", "--quiet", "--target", tmp_path]
    command += ["--require-hashes", "--only-binary", ":all:", "--no-binary", "pims", "--python-platform", system]
    command += ["--python-version", version, "--no-deps", "-r", "requirements.txt", "-r", "requirements-dev.txt"]
    printed_by(*command)


def test_what_is_imported_is_declared():
    """Each package that the course imports is named in pyproject.toml: for learners, or in a group."""
    imported = importlib.metadata.packages_distributions()
    own = {path.stem for folder in ("", "tests") for path in (ROOT / folder).glob("*.py")}
    own |= {"course_helpers", "tools", "dask_kubernetes"}  # the latter is shown, and not run
    lessons = "\n".join(
        cell
        for source in SOURCES
        for cell in re.findall(r"^```{code-cell}.*?\n(.*?)^```", source.read_text("utf-8"), re.M | re.S)
    )
    of_learners = [lessons, *(path.read_text("utf-8") for path in (ROOT / "course_helpers").rglob("*.py"))]
    of_learners.append(read("notebooks/count_on_cluster.py"))
    folders = ("tests", "tools")
    of_authors = [path.read_text("utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")]
    for texts, declared in [(of_learners, names(direct())), (of_authors, names(direct() + direct("all")))]:
        found = {name for text in texts for name in re.findall(r"^\s*(?:from|import) (\w+)", text, re.M)}
        for name in found - own - set(sys.stdlib_module_names):
            if name in imported:
                distributions = {canonicalize_name(distribution) for distribution in imported[name]}
                assert distributions & declared, f"write {distributions} into pyproject.toml: {name} is imported"


def test_python_versions_agree(course):
    assert (PYTHONS[0], PYTHONS[-1]) == tuple(".".join(map(str, version)) for version in (course.OLDEST, course.NEWEST))
    supported = SpecifierSet(PROJECT["project"]["requires-python"])
    assert [f"3.{minor}" for minor in range(99) if f"3.{minor}" in supported] == PYTHONS
    said = f"Python {PYTHONS[0]} to {PYTHONS[-1]}"
    assert said in read("README.md") and said in course.WRONG_PYTHON and said in course.__doc__
    matrix = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"]["test"]["strategy"]["matrix"]
    assert sorted({*matrix["python"], *(entry["python"] for entry in matrix["include"])}) == PYTHONS
    container = json.loads(read(".devcontainer/devcontainer.json"))
    assert container["image"].removeprefix("python:") in PYTHONS
    assert container["postCreateCommand"].removeprefix("python course.py ") in course.COMMANDS


# ---------------------------------------------------------------------------------------------------- course.py


@pytest.fixture
def course(tmp_path):
    """course.py in a folder of its own, with what it reads but nothing else."""
    folder = tmp_path / "über uns"
    (folder / "tools").mkdir(parents=True)
    for name in ("course.py", "requirements.txt", "requirements-dev.txt", *TOOLS):
        shutil.copy(ROOT / name, folder / name)
    return load(folder)


def load(folder):
    """course.py and its environment in this folder."""
    course, course.environment = loaded(folder / "course.py"), loaded(folder / "tools" / "environment.py")
    return course


def files(course):
    """Everything in the course's folder, with what is written in it."""
    return {
        path.relative_to(course.ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in Path(course.ROOT).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name != ".venv-lock"
    }


def make_environment(course, setup=None):
    """Pretend that .venv was made; its Python is a file, so `run` is replaced."""
    environment = course.environment
    environment.write(environment.PYTHON, "python")
    environment.write(environment.marker("setup"), setup or environment.fingerprint("setup"))
    course.environment.run = lambda *command, **options: True


def pretend_to_install(course, succeeds=True):
    """Replace what takes long; the list that is returned gets the groups that were installed."""
    installed = []

    def make_venv():
        course.environment.write(course.environment.marker("setup"), "unfinished")
        course.environment.write(course.environment.PYTHON, "new python")

    def install(group, again):
        installed.append(group)
        if isinstance(succeeds, BaseException):
            raise succeeds
        return succeeds

    course.environment.make_venv, course.environment.install = make_venv, install
    course.environment.run = lambda *command, **options: True
    course.start = lambda arguments: 0
    return installed


def message_of(function, *arguments):
    """What the program says when it ends itself."""
    with pytest.raises(SystemExit) as ending:
        function(*arguments)
    return str(ending.value)


def test_a_finished_environment_is_used_again_also_by_another_name(course, tmp_path):
    make_environment(course)
    requirements = Path(course.environment.PINS)
    requirements.write_bytes(requirements.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    course.environment.set_up, course.start = pytest.fail, lambda arguments: 7
    assert course.main(["lab"]) == 7
    if not windows:  # where links need special rights
        os.symlink(course.ROOT, tmp_path / "link")
        assert load(tmp_path / "link").environment.is_installed("setup")


DAMAGES = {
    "requirements": lambda environment: Path(environment.PINS).write_text("dask==1.0\n"),
    "unfinished": lambda environment: environment.write(environment.marker("setup"), "unfinished"),
    "no python": lambda environment: os.remove(environment.PYTHON),
    "broken": lambda environment: None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_environment_that_does_not_fit_is_renewed(course, damage):
    make_environment(course)
    installed = pretend_to_install(course)
    DAMAGES[damage](course.environment)
    if damage == "broken":
        course.environment.works = lambda *arguments: bool(installed)
    for _ in range(2):
        course.main(["lab"])
        assert installed == ["setup"] and course.environment.is_installed("setup")


def test_a_command_adds_what_only_it_needs(course):
    installed = pretend_to_install(course)
    for command in ("lab", "progress", "book", "book", "test", "test --all"):
        course.main(command.split())
    assert installed == ["setup", "book", "test", "all"]
    Path(course.environment.PINS_OF_GROUPS).write_text("other pins")
    course.main(["lab"])
    course.main(["book"])
    assert installed[4:] == ["book"], "learners have nothing to do with the pins of groups"


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 8, 0), (3, 10, 13), (3, 15, 0)])
def test_other_pythons_are_told_so(course, monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", (*version, "final", 0))
    message = message_of(course.main, ["lab"])
    assert f"this is Python {version[0]}.{version[1]}." in message and "python3.14 course.py lab" in message
    assert files(course).keys() == {"course.py", "requirements.txt", "requirements-dev.txt", *TOOLS}


def test_old_pythons_can_read_course_py():
    text = read("course.py")
    assert text.isascii(), "Python 2 reads nothing else without being told"
    tree = ast.parse(text, feature_version=(3, 4))
    later = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Match, ast.AsyncFunctionDef)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, later)]
    used = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert used == {"os", "signal", "subprocess", "sys"}, "Python 2 has them"


@pytest.mark.parametrize("arguments", [[], ["nosuch"], ["--help"], ["Lab"]])
def test_unknown_commands_start_nothing(course, arguments):
    course.environment.set_up = course.start = pytest.fail
    message = message_of(course.main, arguments)
    for command in course.COMMANDS:
        assert f"python course.py {command}" in message


def test_commands_lead_somewhere_and_pass_arguments_on(course, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    pretend_to_install(course)
    course.start = lambda arguments: arguments
    for command, started in course.COMMANDS.items():
        assert course.main([command, "-k", "a b"]) == [*started, "-k", "a b"]
        assert started[0] == "-m" and importlib.util.find_spec(started[1].split()[0])
    assert course.COMMANDS["lab"][-1] == "--ServerApp.root_dir=" + os.path.join(course.ROOT, "notebooks")
    everything = course.main(["test", "-x", "--all"])
    assert everything == ["-m", "pytest", "course_helpers", "tests", "notebooks/solutions", "-x"]
    assert set(course.GROUPS) | {"all", "formats"} == set(PROJECT["dependency-groups"])  # installed from a notebook


def test_jupyterlab_starts_for_root_and_says_so(course, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    pretend_to_install(course)
    course.start = list
    for command in ("lab", "slides"):
        assert course.main([command, "3"])[-2:] == ["3", "--allow-root"]
        assert course.ROOT_SAID in capsys.readouterr().out
    assert "--allow-root" not in course.main(["progress"])


def test_programs_run_in_the_folder_undisturbed_by_other_environments(course, monkeypatch):
    for name in course.environment.MISLEADING:
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("HTTPS_PROXY", "kept")
    course.environment.PYTHON = sys.executable
    script = (
        "import os, sys; kept = os.environ['HTTPS_PROXY'] == 'kept' and sys.flags.utf8_mode == 1;"
        f"misled = set(os.environ) & set({course.environment.MISLEADING}); here = os.path.samefile(os.getcwd(), sys.argv[1]);"
        "first = os.environ['PATH'].split(os.pathsep)[0] == os.path.dirname(sys.executable);"
        "sys.exit(3 if kept and here and first and not misled else 4)"
    )
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert course.start(["-c", script, course.ROOT]) == 3
    finally:
        signal.signal(signal.SIGTERM, before)
    assert course.environment.run([sys.executable, "-c", script.replace("exit(3", "exit(0"), course.ROOT])


def test_a_home_that_cannot_be_written_to_is_replaced(course, monkeypatch, tmp_path):
    """What pip, uv and JupyterLab keep there goes into .venv."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert course.environment.variables()["HOME"] == str(tmp_path)
    assert not course.environment.is_usable(tmp_path / "nowhere") and course.environment.is_usable(tmp_path)
    monkeypatch.setattr(course.environment, "is_usable", lambda folder: folder != str(tmp_path))
    assert Path(course.environment.variables()["HOME"]).parent == Path(course.environment.VENV)
    assert course.environment.variables()["UV_NO_CACHE"] == "1"


TOLD_TO_PIP = {"PIP_INDEX_URL": "http://127.0.0.1:9/a", "PIP_EXTRA_INDEX_URL": "http://x:9/b http://x:9/c"}
TOLD_TO_PIP |= {"PIP_FIND_LINKS": "one two", "PIP_TRUSTED_HOST": "x", "PIP_NO_INDEX": "1", "PIP_PROXY": "http://p:9"}
AS_UV_SAYS = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/a", "UV_INDEX": "http://x:9/b http://x:9/c"}
AS_UV_SAYS |= {"UV_FIND_LINKS": "one,two", "UV_INSECURE_HOST": "x", "UV_NO_INDEX": "1", "ALL_PROXY": "http://p:9"}
IN_FILE = "".join(f"{name[4:].lower().replace('_', '-')} = {value}\n" for name, value in TOLD_TO_PIP.items())
A, B, C = (f"http://127.0.0.1:9/{name}" for name in "abc")


@pytest.mark.parametrize(
    ("variables", "file", "expected"),
    [
        (TOLD_TO_PIP, "", AS_UV_SAYS),
        ({}, "[global]\n" + IN_FILE, AS_UV_SAYS),
        ({}, f"[global]\nindex-url = {A}\n[install]\nindex-url = {B}", {"UV_DEFAULT_INDEX": B}),
        ({"UV_INDEX_URL": A}, "", {"PIP_INDEX_URL": A}),
        ({"UV_INDEX_URL": A, "UV_DEFAULT_INDEX": B}, "", {"PIP_INDEX_URL": B}),
        ({"PIP_EXTRA_INDEX_URL": A, "UV_INDEX": B}, "", {"PIP_EXTRA_INDEX_URL": A, "UV_INDEX": B}),
        ({"PIP_INDEX_URL": A}, f"[global]\nindex-url = {C}", {"PIP_INDEX_URL": A, "UV_DEFAULT_INDEX": A}),
    ],
)
def test_pip_and_uv_are_told_the_same(course, monkeypatch, tmp_path, variables, file, expected):
    course.environment.PYTHON = sys.executable
    for name in [*TOLD_TO_PIP, *AS_UV_SAYS, "UV_INDEX_URL"]:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pip.conf").write_text(file)
    for name, value in {**variables, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}.items():
        monkeypatch.setenv(name, value)
    told = course.environment.told()
    assert {name: told.get(name) for name in expected} == expected
    assert told["PIP_USER"] == "0" and told["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    os.mkdir(course.environment.VENV)
    commands = []
    course.environment.run = lambda command, **options: commands.append(command) or True
    course.environment.install("setup", False)
    no_index = expected.get("UV_NO_INDEX") == "1"
    assert ("--no-index" in commands[1]) == no_index, "of this setting, uv knows no variable"


def test_packages_are_installed_with_hashes_and_never_compiled(course):
    os.mkdir(course.environment.VENV)
    commands = []
    course.environment.told = dict
    course.environment.run = lambda command, **options: commands.append(command) or True
    assert course.environment.install("setup", False) and course.environment.install("book", True)
    assert [command[2] for command in commands] == ["pip", "uv", "pip", "uv"]
    for command in commands:
        assert "--require-hashes" in command and command[command.index("--only-binary") + 1] == ":all:"
    only_uv = Path(commands[0][-1]).read_text(encoding="utf-8")
    assert only_uv.startswith("uv==") and only_uv in PINS_TEXT and only_uv.count("--hash=sha256:") > 5
    assert course.environment.PINS in commands[1] and "book" not in commands[1]
    assert commands[3][commands[3].index("--group") + 1] == "book" and course.environment.PINS_OF_GROUPS in commands[3]
    assert "--reinstall" in commands[3] and "--reinstall" not in commands[1]
    course.environment.run = lambda command, **options: commands.append(command) and False
    assert not course.environment.install("setup", False) and len(commands) == 5, "without uv, nothing more is tried"


def test_the_environment_is_completed(tmp_path):
    finish = runpy.run_path(str(ROOT / "tools" / "finish.py"))
    packages = tmp_path / "lib" / "site-packages"
    packages.mkdir(parents=True)
    for _ in range(2):
        finish["write_lab_settings"](tmp_path)
        finish["lead_to_course"](packages)
    written = json.loads((tmp_path / "share/jupyter/lab/settings/overrides.json").read_text())
    assert written["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
    way = (packages / "course.pth").read_text(encoding="utf-8")
    assert os.path.samefile(packages / way, ROOT)
    assert {"python tools/finish.py", "python tools/finish.py warm-up"} <= set(read("postBuild").splitlines())


@pytest.mark.parametrize(
    "failure",
    [False, KeyboardInterrupt(), OSError(28, "No space left on device"), subprocess.CalledProcessError(1, "x")],
)
def test_a_failed_set_up_leaves_what_was_there(course, failure):
    make_environment(course, "an older version of the course")
    course.environment.write(os.path.join(course.environment.VENV, "lib", "dask"), "precious")
    before = files(course)
    pretend_to_install(course, failure)
    message = message_of(course.main, ["lab"])
    before[".venv/course-setup.txt"] = course.environment.UNFINISHED
    assert files(course) == before
    if failure is False:
        assert "no network" in message and "disk" in message and "still there" in message
    elif isinstance(failure, KeyboardInterrupt):
        assert "Stopped" in message
    else:
        assert str(failure) in message and "write into this folder" in message


def test_what_was_interrupted_is_installed_again(course):
    """Where copying stopped, uv takes half a package for a whole one."""
    make_environment(course, "an older version of the course")
    pretend_to_install(course, False)
    asked = []
    course.environment.install = lambda group, again: asked.append(again) or len(asked) > 1
    message_of(course.main, ["lab"])
    course.main(["lab"])
    assert asked == [False, True] and course.environment.is_installed("setup")


def test_a_set_up_that_cannot_be_finished_does_not_count(course):
    make_environment(course, "an older version of the course")
    pretend_to_install(course)
    course.environment.run = lambda command, **options: course.environment.FINISH not in command
    assert "did not succeed" in message_of(course.main, ["lab"])
    assert not course.environment.is_installed("setup")


def test_a_python_without_pip_is_made_anew(course):
    make_environment(course, "an older version of the course")
    pretend_to_install(course)
    course.environment.run = lambda command, **options: "pip" not in command
    course.main(["lab"])
    assert course.environment.read(course.environment.PYTHON) == "new python"


def test_a_broken_environment_is_made_anew_in_one_piece(course, monkeypatch):
    make_environment(course, "unfinished")
    course.environment.write(os.path.join(course.environment.VENV, "half"), "a package")
    made = []
    monkeypatch.setattr(venv, "create", lambda *arguments, **options: made.append(files(course)))
    course.environment.make_venv()
    assert ".venv/half" not in made[0] and made[0][".venv/course-setup.txt"] == ""
    assert not os.path.exists(course.environment.TRASH)


@pytest.mark.parametrize("kind", ["folder", "file", "dead link"])
def test_somebody_elses_venv_is_left_alone(course, kind):
    if kind == "folder":
        course.environment.write(os.path.join(course.environment.VENV, "pyvenv.cfg"), "home = elsewhere")
    elif kind == "file":
        course.environment.write(course.environment.VENV, "mine")
    elif windows:
        pytest.skip("links need special rights on Windows")
    else:
        os.symlink("nowhere", course.environment.VENV)
    before = files(course)
    pretend_to_install(course)
    assert "not made by course.py" in message_of(course.main, ["lab"])
    assert files(course) == before and os.path.lexists(course.environment.VENV)


def test_what_cannot_succeed_is_said_beforehand(course, monkeypatch):
    pretend_to_install(course)
    before = files(course)
    with monkeypatch.context() as little:
        little.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**10, 10**10 - 10**8, 10**8))
        assert "GB needed, 0.1 GB free" in message_of(course.main, ["lab"])
    with monkeypatch.context() as debian:
        debian.setitem(sys.modules, "ensurepip", None)
        assert "apt install python3-venv" in message_of(course.main, ["lab"])
    with monkeypatch.context() as intel:
        intel.setattr(sys, "platform", "darwin")
        intel.setattr(platform, "machine", lambda: "x86_64")
        assert "Apple chip" in message_of(course.main, ["lab"])
    assert files(course) == before
    assert "Apple chip" in read("README.md")


def test_two_set_ups_do_not_disturb_each_other(course):
    before = files(course)
    pretend_to_install(course)
    with course.environment.lock():
        if not windows:
            script = "import course; course.main(['lab'])"
            assert "another window" in python("-c", script, cwd=course.ROOT).stderr
    assert files(course) == before


@pytest.mark.skipif(windows, reason="Windows locks in another way")
def test_a_drive_without_locks_is_no_obstacle(course, monkeypatch):
    import fcntl

    def refuse(file, operation):
        assert file.writable(), "network drives refuse an exclusive lock on what is open for reading"
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    course.environment.lock().close()


def test_the_kernel_for_another_jupyter_knows_the_course(tmp_path, monkeypatch):
    """Registered as `python course.py kernel` does, it is found, starts elsewhere and imports the helpers."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = load(ROOT).COMMANDS["kernel"]
    printed_by(*command)
    name = next(option.partition("=")[2] for option in command if option.startswith("--name="))
    monkeypatch.chdir(tmp_path)
    manager, client = start_new_kernel(kernel_name=name)
    try:
        assert manager.kernel_spec.argv[0] == sys.executable
        reply = client.execute_interactive("import course_helpers.objects", timeout=60)
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


# -------------------------------------------------------------------------------------- Binder, workflow, licences


def test_environment_for_binder_and_conda():
    environment = yaml.safe_load(read("environment.yml"))
    python, notebook, *others = environment["dependencies"]
    assert python == "python=3.12", "exactly so: repo2docker misreads anything else"
    jupyterlab = next(str(pin.specifier) for pin, _ in pins(PINS_TEXT) if pin.name == "jupyterlab")
    assert notebook == re.sub(r"==4(\.\d+).*", r"notebook=7\1", jupyterlab), "write the notebook of this JupyterLab"
    assert others == ["pip", {"pip": ["-r requirements.txt"]}]
    for folder in ("binder", ".binder"):
        assert not (ROOT / folder).exists(), "it would hide environment.yml"


@pytest.mark.parametrize("name", ["postBuild", ".ci/run"])
def test_scripts_run_and_stop_at_the_first_failure(name):
    assert windows or os.access(ROOT / name, os.X_OK), f"run: chmod +x {name}"
    assert windows or "\r" not in read(name)
    assert re.match(r"#!/usr/bin/env bash\n(#.*\n)*set -euo pipefail\n", read(name))


def test_citation_says_version_and_licence_of_the_project():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == [PROJECT["project"]["license"], "CC-BY-4.0"]
    assert "BSD 3-Clause" in read("LICENSE") and "CC-BY-4.0" in read("LICENSE-TEXT")


# --------------------------------------------------------------------------------------- README, glossary, links


def test_readme_lists_every_lesson_and_names_the_commands():
    readme = read("README.md")
    assert builder.with_contents(readme) == readme, "run: python course.py build"
    for command in ("lab", "test", "build", "book", "pin"):
        assert f"python course.py {command}" in readme


def test_badge_opens_the_first_lesson():
    """As long as no repository is filled in, README shows no badge; the rest of the line is right in any case."""
    text = read("README.md")
    address = r"https://mybinder\.org/v2/gh/([\w.-]+/[\w.-]+)/HEAD\?urlpath=lab/tree/([^)]+)"
    ((line, repository, path),) = re.findall(rf"^(.*{address}.*)$", text, re.M)
    assert path == "notebooks/_begin_here.ipynb" and (ROOT / path).exists()
    shown = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    assert (line in shown) == (repository != "OWNER/REPOSITORY")


PAGES = ["README.md", "data/README.md", "notebooks/glossary.md", "teachers_guide.md"]
PLACES = [(page, os.path.dirname(page)) for page in PAGES]
PLACES += [(source, folder) for source in SOURCES for folder in ("notebooks", "notebooks/solutions")]


@pytest.mark.parametrize(("page", "folder"), PLACES, ids=str)
def test_links_lead_somewhere(page, folder):
    prose = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:|#", target):
            assert (ROOT / folder / target.split("#")[0]).exists(), f"in {folder}, {page} links to {target}"


@pytest.mark.parametrize("command", [["check", "."], ["format", "--check", "."]], ids=lambda command: command[0])
def test_code_is_clean(command):
    """Unused names, wrong order of imports and the like; `ruff check` and `ruff format` say and mend it."""
    printed_by("-m", "ruff", *command)
