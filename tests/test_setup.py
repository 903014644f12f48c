"""The frame of the course: pinned packages, course.py, Binder, README and glossary agree with each other."""

import ast
import errno
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import venv
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import Mock, patch

import pytest
import yaml
from jupyter_client.manager import start_new_kernel
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from processes import ROOT, loaded, printed_by, python

from tools import build as builder

SOURCES = builder.lessons()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS_TEXT = (ROOT / "requirements.txt").read_text(encoding="utf-8")
GROUPS_TEXT = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
REPIN = "pyproject.toml and requirements.txt disagree: run python course.py pin"
FILES = ("course.py", "requirements.txt", "requirements-dev.txt")
FILES += ("tools/__init__.py", "tools/environment.py", "tools/finish.py")
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


def direct(group):
    """What pyproject.toml names for a group and the groups in it."""
    return [
        requirement
        for entry in PROJECT["dependency-groups"][group]
        for requirement in (direct(entry["include-group"]) if isinstance(entry, dict) else [Requirement(entry)])
    ]


def names(requirements):
    return {canonicalize_name(requirement.name) for requirement in requirements}


OF_LEARNERS = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
OF_ALL = OF_LEARNERS + direct("all")


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
    pinned = {
        f"{canonicalize_name(pin.name)}{pin.specifier}" for text in (PINS_TEXT, GROUPS_TEXT) for pin, _ in pins(text)
    }
    for requirement in OF_ALL:
        if requirement.marker is None or requirement.marker.evaluate():
            version = importlib.metadata.version(requirement.name)
            assert requirement.specifier.contains(version), f"{requirement} is not installed"
            assert f"{canonicalize_name(requirement.name)}=={version}" in pinned, (
                f"{requirement} is not pinned. {REPIN}"
            )


@pytest.mark.parametrize("text", [PINS_TEXT, GROUPS_TEXT], ids=["requirements.txt", "requirements-dev.txt"])
def test_pins_are_exact_hashed_and_without_addresses(text):
    assert len(pins(text)) > 100
    for pin, block in pins(text):
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)) and pin.url is None, pin
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), f"{pin} has no hash"
    assert not re.search(r"://|file:|[\w-]\.(org|com|net|io|dev)\b|^-", text, re.M)


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
    own = {path.stem for folder in ("", "tests") for path in (ROOT / folder).glob("*.py")} | {"course_helpers", "tools"}
    of_learners = ["course_helpers/**/*.py", "notebooks/count_on_cluster.py", "notebooks/solutions/*.ipynb"]
    for patterns, requirements in [(of_learners, OF_LEARNERS), (["tests/*.py", "tools/**/*.py"], OF_ALL)]:
        text = "\n".join(path.read_text("utf-8") for pattern in patterns for path in ROOT.glob(pattern))
        found = {*re.findall(r'^\s*"?(?:from|import) (\w+)', text, re.M)} - own - {*sys.stdlib_module_names}
        assert {"dask", "numpy"} <= found
        for name in found & imported.keys():
            distributions = {canonicalize_name(distribution) for distribution in imported[name]}
            assert distributions & names(requirements), f"write {distributions} into pyproject.toml: {name} is imported"


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


def load(folder):
    """course.py and its environment in this folder."""
    course, course.environment = loaded(folder / "course.py"), loaded(folder / "tools" / "environment.py")
    return course


@pytest.fixture
def course(tmp_path):
    """course.py in a folder of its own, with what it reads but nothing else."""
    folder = tmp_path / "über uns"
    (folder / "tools").mkdir(parents=True)
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    return load(folder)


@pytest.fixture
def quick(course):
    """The same, without what takes long: pretended are making .venv, filling it, and running programs."""
    course.environment.make_venv = Mock(side_effect=lambda: make_environment(course, "made", "new python"))
    course.environment.install, course.environment.run = Mock(return_value=True), Mock(return_value=True)
    course.start = Mock(side_effect=list)
    return course


def make_environment(course, setup=None, python="python"):
    environment = course.environment
    environment.write(environment.PYTHON, python)
    environment.write(environment.marker("setup"), setup or environment.fingerprint("setup"))


def files(course):
    """Everything in the course's folder, with what is written in it."""
    return {
        path.relative_to(course.ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in Path(course.ROOT).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name != ".venv-lock"
    }


def installed(course):
    """Which groups were installed, and whether from the beginning."""
    return [call.args for call in course.environment.install.call_args_list]


def message_of(function, *arguments):
    """What the program says when it ends itself."""
    with pytest.raises(SystemExit) as ending:
        function(*arguments)
    return str(ending.value)


def test_a_finished_environment_is_used_again_also_by_another_name(quick, tmp_path):
    make_environment(quick)
    requirements = Path(quick.environment.PINS)
    requirements.write_bytes(requirements.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert quick.main(["progress"]) == quick.COMMANDS["progress"] and not installed(quick)
    if not windows:  # where links need special rights
        os.symlink(quick.ROOT, tmp_path / "link")
        assert load(tmp_path / "link").environment.is_installed("setup")


def unable(environment, *words):
    """Let programs fail that have one of these words in their command, until packages are installed."""
    environment.run.side_effect = lambda command, **_: environment.install.called or not {*words} & {*command}


OLDER = "an older version of the course"
DAMAGES = {
    "requirements": (lambda environment: Path(environment.PINS).write_text("dask==1.0\n"), "python"),
    "no packages": (lambda environment: unable(environment, "import course_helpers"), "python"),
    "no pip": (lambda environment: unable(environment, "import course_helpers", "pip"), "new python"),
    "no python": (lambda environment: os.remove(environment.PYTHON), "new python"),
    "nothing": (lambda environment: shutil.rmtree(environment.VENV), "new python"),
    "an empty folder": (
        lambda environment: (shutil.rmtree(environment.VENV), os.mkdir(environment.VENV)),
        "new python",
    ),
}


@pytest.mark.parametrize(("damage", "python"), DAMAGES.values(), ids=DAMAGES)
def test_an_environment_that_does_not_fit_is_renewed(quick, damage, python):
    """Once; it is made anew only where its Python cannot install packages."""
    make_environment(quick)
    damage(quick.environment)
    for _ in range(2):
        quick.main(["lab"])
        assert [group for group, _ in installed(quick)] == ["setup"] and quick.environment.is_installed("setup")
    assert quick.environment.read(quick.environment.PYTHON) == python


def test_a_command_adds_what_only_it_needs(quick):
    for command in ("lab", "progress", "book", "book", "test", "test --all"):
        quick.main(command.split())
    Path(quick.environment.PINS_OF_GROUPS).write_text("other pins")
    for command in ("lab", "book"):  # learners have nothing to do with the pins of groups
        quick.main([command])
    assert installed(quick) == [(group, False) for group in ("setup", "book", "test", "all", "book")]


@pytest.mark.parametrize("version", [(2, 7), (3, 10), (3, 15)])
def test_other_pythons_are_told_so(course, monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    message = message_of(course.main, ["lab"])
    assert f"this is Python {version[0]}.{version[1]}." in message and "python3.14 course.py lab" in message
    assert files(course).keys() == {*FILES}


def test_old_pythons_can_read_course_py():
    text = read("course.py")
    assert text.isascii(), "Python 2 reads nothing else without being told"
    nodes = list(ast.walk(ast.parse(text, feature_version=(3, 4))))
    assert not [node for node in nodes if isinstance(node, (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Match))]
    assert set(re.findall(r"^import (.*)$", text, re.M)) == {"os", "signal", "subprocess", "sys"}, "Python 2 has them"


@pytest.mark.parametrize("arguments", [[], ["nosuch"], ["--help"], ["Lab"]])
def test_unknown_commands_start_nothing(quick, arguments):
    message = message_of(quick.main, arguments)
    assert all(f"python course.py {command}" in message for command in quick.COMMANDS)
    assert not installed(quick) and not quick.start.called


@pytest.mark.parametrize("user", [0, 1000])
def test_commands_lead_somewhere_and_pass_arguments_on(quick, monkeypatch, capsys, user):
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    for command, started in quick.COMMANDS.items():
        opens = command in ("lab", "slides") and user == 0  # JupyterLab refuses to start for root
        assert quick.main([command, "-k", "a b"]) == [*started, "-k", "a b", *["--allow-root"] * opens]
        assert (quick.ROOT_SAID in capsys.readouterr().out) == opens
        assert started[0] == "-m" and importlib.util.find_spec(started[1])
    assert quick.COMMANDS["lab"][-1] == "--ServerApp.root_dir=" + os.path.join(quick.ROOT, "notebooks")
    everything = quick.main(["test", "-x", "--all"])
    assert everything == ["-m", "pytest", "course_helpers", "tests", "notebooks/solutions", "-x"]
    assert {*quick.GROUPS, "all", "formats"} == {*PROJECT["dependency-groups"]}  # formats: installed from a notebook


def test_programs_run_in_the_folder_undisturbed_by_other_environments(course, monkeypatch):
    for name in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET", "UV_SYSTEM_PYTHON"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("HTTPS_PROXY", "kept")
    course.environment.PYTHON = sys.executable
    script = (
        "import os, sys; kept = os.environ['HTTPS_PROXY'] == 'kept' and sys.flags.utf8_mode == 1;"
        "misled = 'elsewhere' in os.environ.values(); here = os.path.samefile(os.getcwd(), sys.argv[1]);"
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
    for home, used in [(tmp_path, tmp_path), (tmp_path / "nowhere", Path(course.environment.VENV, "home"))]:
        monkeypatch.setenv("USERPROFILE" if windows else "HOME", str(home))
        variables = course.environment.variables()
        assert variables.get("HOME", str(home)) == str(used) and ("UV_NO_CACHE" in variables) == (home != used)


TOLD_TO_PIP = {"PIP_INDEX_URL": "http://127.0.0.1:9/a", "PIP_EXTRA_INDEX_URL": "http://x:9/b http://x:9/c"}
TOLD_TO_PIP |= {"PIP_FIND_LINKS": "one two", "PIP_TRUSTED_HOST": "x", "PIP_NO_INDEX": "1", "PIP_PROXY": "http://p:9"}
AS_UV_SAYS = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/a", "UV_INDEX": "http://x:9/b http://x:9/c"}
AS_UV_SAYS |= {"UV_FIND_LINKS": "one,two", "UV_INSECURE_HOST": "x", "UV_NO_INDEX": "1", "ALL_PROXY": "http://p:9"}
IN_FILE = "".join(f"{name[4:].lower().replace('_', '-')} = {value}\n" for name, value in TOLD_TO_PIP.items())
A, B, C = (f"http://127.0.0.1:9/{name}" for name in "abc")


@pytest.mark.parametrize(
    ("variables", "file", "expected"),
    [
        (TOLD_TO_PIP, f"[global]\nindex-url = {C}", TOLD_TO_PIP | AS_UV_SAYS),
        ({}, "[global]\n" + IN_FILE, AS_UV_SAYS),
        ({}, f"[global]\nindex-url = {A}\n[install]\nindex-url = {B}", {"UV_DEFAULT_INDEX": B}),
        ({"UV_INDEX_URL": A, "UV_INDEX": C}, "", {"PIP_INDEX_URL": A, "PIP_EXTRA_INDEX_URL": C}),
        ({"UV_INDEX_URL": A, "UV_DEFAULT_INDEX": B}, "", {"PIP_INDEX_URL": B}),
        ({"PIP_EXTRA_INDEX_URL": A, "UV_INDEX": B}, "", {"PIP_EXTRA_INDEX_URL": A, "UV_INDEX": B}),
        ({"ALL_PROXY": A}, "", {"PIP_PROXY": None}),  # pip knows this variable, and that of exceptions
    ],
)
def test_pip_and_uv_are_told_the_same(quick, monkeypatch, tmp_path, variables, file, expected):
    quick.environment.PYTHON = sys.executable
    for name in [*TOLD_TO_PIP, *AS_UV_SAYS, "UV_INDEX_URL"]:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pip.conf").write_text(file)
    for name, value in {**variables, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}.items():
        monkeypatch.setenv(name, value)
    told = quick.environment.told()
    assert {name: told.get(name) for name in expected} == expected
    assert told["PIP_USER"] == "0" and told["UV_INDEX_STRATEGY"] == "unsafe-best-match"


def test_packages_are_installed_with_hashes_and_never_compiled(course):
    environment, run = course.environment, Mock(return_value=True)
    environment.told, environment.run = Mock(return_value={}), run
    assert environment.install("setup", False)
    environment.told.return_value = {"UV_NO_INDEX": "1"}
    assert environment.install("book", True)
    pip, uv, _, uv_of_book = commands = [call.args[0] for call in run.call_args_list]
    assert [command[2] for command in commands] == ["pip", "uv", "pip", "uv"]
    for command in commands:
        assert "--require-hashes" in command and command[command.index("--only-binary") + 1] == ":all:"
    only_uv = Path(pip[-1]).read_text(encoding="utf-8")
    assert only_uv.startswith("uv==") and only_uv in PINS_TEXT and only_uv.count("--hash=sha256:") > 5
    assert environment.PINS in uv and not {"book", "--reinstall", "--no-index"} & {*uv}
    assert {environment.PINS, environment.PINS_OF_GROUPS, "book", "--reinstall", "--no-index"} <= {*uv_of_book}
    run.return_value = False
    assert not environment.install("setup", False) and run.call_count == 5, "without uv, nothing more is tried"


def test_the_environment_is_completed(tmp_path):
    finish = loaded(ROOT / "tools" / "finish.py")
    for _ in range(2):
        finish.write_lab_settings(tmp_path)
        finish.lead_to_course(tmp_path)
    written = json.loads((tmp_path / "share/jupyter/lab/settings/overrides.json").read_text())
    assert written["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
    way = (tmp_path / "course.pth").read_text(encoding="utf-8")
    assert os.path.samefile(tmp_path / way, ROOT) and (windows or not os.path.isabs(way))
    assert {"python tools/finish.py", "python tools/finish.py warm-up"} <= set(read("postBuild").splitlines())


@pytest.mark.parametrize(
    ("outcome", "finished", "words"),
    [
        (False, True, "The packages you had are still there"),
        (True, False, "did not succeed"),
        (KeyboardInterrupt(), True, "Stopped"),
        (OSError(28, "No space left on device"), True, "No space left on device"),
        (subprocess.CalledProcessError(1, "x"), True, "returned non-zero exit status 1"),
    ],
)
def test_a_failed_set_up_leaves_what_was_there_and_is_done_again(quick, outcome, finished, words):
    """From the beginning: where copying stopped, uv takes half a package for a whole one."""
    make_environment(quick, OLDER)
    quick.environment.write(os.path.join(quick.environment.VENV, "lib", "dask"), "precious")
    before = files(quick)
    quick.environment.install.side_effect = [outcome, True]
    quick.environment.run.side_effect = lambda command, **_: finished or quick.environment.FINISH not in command
    assert words in message_of(quick.main, ["lab"])
    assert files(quick) == before | {".venv/course-setup.txt": quick.environment.UNFINISHED}
    quick.environment.run.side_effect = None
    quick.main(["lab"])
    assert installed(quick) == [("setup", False), ("setup", True)] and quick.environment.is_installed("setup")


def test_a_broken_environment_is_made_anew_in_one_piece(course, monkeypatch):
    make_environment(course, "unfinished")
    made = []
    monkeypatch.setattr(venv, "create", lambda *arguments, **options: made.append(files(course)))
    course.environment.make_venv()
    (during,) = made
    assert {name for name in during if name.startswith(".venv/")} == {".venv/course-setup.txt"}
    assert during[".venv/course-setup.txt"] == "" and not os.path.exists(course.environment.TRASH)


MINE = {
    "folder": lambda environment: environment.write(os.path.join(environment.VENV, "pyvenv.cfg"), "home = elsewhere"),
    "file": lambda environment: environment.write(environment.VENV, "mine"),
    "dead link": lambda environment: os.symlink("nowhere", environment.VENV),
}


@pytest.mark.parametrize("kind", [kind for kind in MINE if kind != "dead link" or not windows])
def test_somebody_elses_venv_is_left_alone(quick, kind):
    MINE[kind](quick.environment)
    before = files(quick)
    assert "not made by course.py" in message_of(quick.main, ["lab"])
    assert files(quick) == before and os.path.lexists(quick.environment.VENV) and not installed(quick)


@pytest.mark.parametrize(
    ("patches", "words"),
    [
        ([patch("shutil.disk_usage", return_value=Mock(free=1e8))], "GB needed, 0.1 GB free"),
        ([patch.dict(sys.modules, ensurepip=None)], "apt install python3-venv"),
        ([patch("sys.platform", "darwin"), patch("platform.machine", return_value="x86_64")], "Apple chip"),
    ],
)
def test_what_cannot_succeed_is_said_beforehand(quick, patches, words):
    before = files(quick)
    with ExitStack() as stack:
        for obstacle in patches:
            stack.enter_context(obstacle)
        assert words in message_of(quick.main, ["lab"])
    assert files(quick) == before


@pytest.mark.skipif(windows, reason="Windows locks in another way")
def test_only_another_set_up_keeps_a_set_up_out(quick, monkeypatch):
    """Also one that was killed, as long as a program of it runs."""
    before = files(quick)
    children = []
    monkeypatch.setattr(
        "subprocess.call", lambda *command, **options: children.append(subprocess.Popen(*command, **options))
    )
    with quick.environment.lock():
        assert "another window" in message_of(quick.main, ["lab"])
        loaded(Path(quick.environment.__file__)).run([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert "another window" in message_of(quick.main, ["lab"])
    assert files(quick) == before
    children[0].communicate()

    def refuse(file, operation):
        assert file.writable(), "network drives refuse an exclusive lock on what is open for reading"
        raise OSError(errno.ENOLCK, "No locks available")

    quick.environment.lock().close()
    monkeypatch.setattr("fcntl.flock", refuse)
    quick.environment.lock().close()


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
