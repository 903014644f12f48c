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
from pathlib import Path
from unittest.mock import Mock, patch

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from processes import ROOT, loaded, printed_by, python

from tools import build as builder

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS_TEXT = (ROOT / "requirements.txt").read_text(encoding="utf-8")
FILES = ("course.py", "requirements.txt", "requirements-dev.txt")
FILES += ("tools/__init__.py", "tools/environment.py", "tools/finish.py")
windows = os.name == "nt"


def load(folder):
    """course.py and its environment in this folder."""
    course, course.environment = loaded(folder / "course.py"), loaded(folder / "tools" / "environment.py")
    return course


COURSE = load(ROOT)
PYTHONS = [f"3.{minor}" for minor in range(COURSE.OLDEST[1], COURSE.NEWEST[1] + 1)]


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------- pinned packages


@pytest.mark.parametrize("version", [PYTHONS[0], PYTHONS[-1]])
@pytest.mark.parametrize(
    "system", ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "windows", "aarch64-apple-darwin"]
)
def test_what_is_named_and_what_it_requires_is_pinned_with_hashes_and_never_compiled(system, version, tmp_path):
    """(pims, which only `bench` needs, is pure Python.) Skipped without a network; in CI that is a failure."""
    options = f"""--require-hashes --only-binary :all: --no-binary pims --python-platform {system} --python-version {version}
        -r pyproject.toml --group all -c requirements.txt -c requirements-dev.txt"""
    asked = python(*"-m uv pip install --dry-run --quiet --target".split(), tmp_path, *options.split())
    if "Failed to fetch" in asked.stderr and not os.environ.get("CI"):
        pytest.skip(f"needs a network: {asked.stderr}")
    assert asked.returncode == 0, f"If a pin is missing, run python course.py pin. {asked.stderr}"


def test_pins_name_no_server():
    assert not re.search(r"://|file:|[\w-]\.(org|com|net|io|dev)\b|^-", PINS_TEXT + read("requirements-dev.txt"), re.M)


def test_learners_get_what_they_import():
    patterns = ["course_helpers/**/*.py", "notebooks/count_on_cluster.py", "notebooks/solutions/*.ipynb"]
    text = "\n".join(path.read_text("utf-8") for pattern in patterns for path in ROOT.glob(pattern))
    packages = importlib.metadata.packages_distributions()
    imported = {*re.findall(r'^\s*"?(?:from|import) (\w+)', text, re.M)} & packages.keys()
    assert {"dask", "numpy"} <= imported
    for name in imported - {"course_helpers"}:
        pins = [f"\n{canonicalize_name(package)}==" for package in packages[name]]
        assert any(pin in PINS_TEXT for pin in pins), f"write into pyproject.toml what {name} is in, for learners"


def test_versions_agree():
    assert yaml.safe_load(read("CITATION.cff"))["version"] == PROJECT["project"]["version"]
    supported = SpecifierSet(PROJECT["project"]["requires-python"])
    assert [f"3.{minor}" for minor in range(99) if f"3.{minor}" in supported] == PYTHONS
    for text in (read("README.md"), COURSE.WRONG_PYTHON, COURSE.__doc__):
        assert f"Python {PYTHONS[0]} to {PYTHONS[-1]}" in text
    container = json.loads(read(".devcontainer/devcontainer.json"))
    assert container["image"].removeprefix("python:") in PYTHONS
    assert container["postCreateCommand"].removeprefix("python course.py ") in COURSE.COMMANDS


# ---------------------------------------------------------------------------------------------------- course.py


@pytest.fixture
def course(tmp_path):
    """course.py in a folder of its own, with what it reads but nothing else."""
    folder = tmp_path / "über uns"
    (folder / "tools").mkdir(parents=True)
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    return load(folder)


@pytest.fixture
def quick(course, monkeypatch):
    """The same, without what takes long: pretended are making .venv, filling it, and running programs."""
    environment = course.environment
    monkeypatch.setattr(venv, "create", lambda *_, **options: environment.write(environment.PYTHON, "new python"))
    environment.install, environment.run = Mock(return_value=True), Mock(return_value=True)
    course.start = Mock(side_effect=list)
    return course


def make_environment(course, setup=None):
    environment = course.environment
    environment.write(environment.PYTHON, "python")
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


def unable(environment, *words):
    """Let programs fail that have one of these words in their command, until packages are installed."""
    environment.run.side_effect = lambda command, **_: environment.install.called or not {*words} & {*command}


DAMAGES = {
    "none": (lambda environment: Path(environment.PINS).write_text(PINS_TEXT, newline="\r\n"), "python"),  # Windows
    "requirements": (lambda environment: Path(environment.PINS).write_text("dask==1.0\n"), "python"),
    "no packages": (lambda environment: unable(environment, "import course_helpers"), "python"),
    "no pip": (lambda environment: unable(environment, "import course_helpers", "pip"), "new python"),
    "no python": (lambda environment: os.remove(environment.PYTHON), "new python"),
    "nothing": (lambda environment: shutil.rmtree(environment.VENV), "new python"),
    "an empty folder": (
        lambda environment: shutil.rmtree(environment.VENV) or os.mkdir(environment.VENV),
        "new python",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_an_environment_that_does_not_fit_is_renewed_once(quick, kind):
    """It is made anew only where its Python cannot install packages, also if that was stopped before."""
    damage, python = DAMAGES[kind]
    make_environment(quick)
    damage(quick.environment)
    if python == "new python":
        with patch.object(venv, "create", side_effect=KeyboardInterrupt):
            assert "Stopped" in message_of(quick.main, ["lab"])
        assert os.listdir(quick.environment.VENV) == ["course-setup.txt"], "nothing old is left in it"
    for _ in range(2):
        quick.main(["lab"])
        assert installed(quick) == [("setup", False)] * (kind != "none") and quick.environment.is_installed("setup")
    assert quick.environment.read(quick.environment.PYTHON) == python and not os.path.exists(quick.environment.TRASH)


def mine(*path):
    """A file of somebody else where .venv should be, or in it."""
    return lambda _, environment: environment.write(os.path.join(environment.VENV, *path), "mine")


OBSTACLES = {
    "this is Python 3.10.": lambda patches, _: patches.setattr("sys.version_info", (3, 10)),
    "this is Python 3.15.": lambda patches, _: patches.setattr("sys.version_info", (3, 15)),
    "0.1 GB free": lambda patches, _: patches.setattr("shutil.disk_usage", lambda path: Mock(free=1e8)),
    "apt install python3-venv": lambda patches, _: patches.setitem(sys.modules, "ensurepip", None),
    "an Apple chip": lambda patches, _: (
        patches.setattr("sys.platform", "darwin"),
        patches.setattr("platform.machine", lambda: "x86_64"),
    ),
    ".venv here that was not made by course.py": mine("pyvenv.cfg"),
    "not made by course.py": mine(),
}


@pytest.mark.parametrize("words", OBSTACLES)
def test_what_cannot_succeed_is_said_before_anything_is_touched(quick, monkeypatch, words):
    OBSTACLES[words](monkeypatch, quick.environment)
    before = files(quick)
    assert words in message_of(quick.main, ["lab"])
    assert files(quick) == before and not installed(quick)


def test_old_pythons_can_read_course_py():
    text = read("course.py")
    assert text.isascii(), "Python 2 reads nothing else without being told"
    nodes = list(ast.walk(ast.parse(text, feature_version=(3, 4))))
    assert not [node for node in nodes if isinstance(node, (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Match))]
    assert set(re.findall(r"^import (.*)$", text, re.M)) == {"os", "signal", "subprocess", "sys"}, "Python 2 has them"


@pytest.mark.parametrize("user", [0, 1000])
def test_commands_lead_somewhere_pass_arguments_on_and_add_what_only_they_need(quick, monkeypatch, capsys, user):
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    for command, started in quick.COMMANDS.items():
        opens = command in ("lab", "slides") and user == 0  # JupyterLab refuses to start for root
        assert quick.main([command, "-k", "a b"]) == [*started, "-k", "a b", *["--allow-root"] * opens]
        assert (quick.ROOT_SAID in capsys.readouterr().out) == opens
        assert started[0] == "-m" and importlib.util.find_spec(started[1])
        for unknown in ([], ["--help"]):
            assert f"python course.py {command}" in message_of(quick.main, unknown)
    everything = quick.main(["test", "-x", "--all"])
    assert everything == ["-m", "pytest", "course_helpers", "tests", "notebooks/solutions", "-x"]
    assert {*quick.GROUPS, "all", "formats"} == {*PROJECT["dependency-groups"]}  # formats: installed from a notebook
    Path(quick.environment.PINS_OF_GROUPS).write_text("other pins")
    for command in ("lab", "book", "book"):  # learners have nothing to do with the pins of groups
        quick.main([command])
    needed = [command for command in quick.COMMANDS if command in quick.GROUPS]
    assert installed(quick) == [(group, False) for group in ("setup", *needed, "all", "book")]


def test_programs_run_in_the_folder_undisturbed_by_other_environments(course, monkeypatch, tmp_path):
    """Where a home cannot be written to, what pip, uv and JupyterLab keep there goes into .venv."""
    environment, elsewhere = course.environment, str(tmp_path / "nowhere")
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "PIP_TARGET", "USERPROFILE" if windows else "HOME"):
        monkeypatch.setenv(name, elsewhere)
    assert environment.variables()["HOME"] == os.path.join(environment.VENV, "home")
    monkeypatch.setenv("USERPROFILE" if windows else "HOME", str(tmp_path))
    assert environment.variables().get("HOME", str(tmp_path)) == str(tmp_path)
    monkeypatch.setattr(signal, "signal", Mock())
    environment.PYTHON = sys.executable
    script = (
        "import os, sys; misled = sys.argv[2] in os.environ.values() or not os.path.samefile(os.getcwd(), sys.argv[1]);"
        "first = os.environ['PATH'].split(os.pathsep)[0] == os.path.dirname(sys.executable);"
        "sys.exit(4 if misled or not first or not sys.flags.utf8_mode else 3)"
    )
    assert course.start(["-c", script, course.ROOT, elsewhere]) == 3


PIP_FILE = "[global]\nindex-url = b\nextra-index-url = a\nfind-links = d e\n[install]\nindex-url = a\nproxy = b"
TOLD_TO_PIP = {"PIP_EXTRA_INDEX_URL": "b c", "PIP_TRUSTED_HOST": "x", "PIP_NO_INDEX": "1", "PIP_PROXY": "c"}
AS_UV_SAYS = {"UV_DEFAULT_INDEX": "a", "UV_INDEX": "b c", "UV_FIND_LINKS": "d,e"}
AS_UV_SAYS |= {"UV_INSECURE_HOST": "x", "UV_NO_INDEX": "1", "ALL_PROXY": "c"}
TOLD_TO_UV = {"UV_INDEX_URL": "a", "UV_INDEX": "b", "UV_EXTRA_INDEX_URL": "c", "ALL_PROXY": "a"}
TOLD_TO_BOTH = {"UV_FIND_LINKS": "d", "PIP_FIND_LINKS": "e"}
AS_PIP_SAYS = {"PIP_INDEX_URL": "a", "PIP_EXTRA_INDEX_URL": "b", "PIP_PROXY": None}  # pip knows ALL_PROXY
TOLD = {"pip": (TOLD_TO_PIP, PIP_FILE, AS_UV_SAYS), "uv": (TOLD_TO_UV | TOLD_TO_BOTH, "", AS_PIP_SAYS)}


@pytest.mark.parametrize("variables, file, expected", TOLD.values(), ids=TOLD)
def test_pip_and_uv_are_told_the_same(quick, monkeypatch, tmp_path, variables, file, expected):
    """A file for pip goes for less than a variable, and its [global] for less than its [install]."""
    quick.environment.PYTHON = sys.executable
    for name in [name for name in os.environ if re.match("PIP_|UV_|ALL_PROXY", name)]:
        monkeypatch.delenv(name)
    (tmp_path / "pip.conf").write_text(file)
    for name, value in {**variables, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}.items():
        monkeypatch.setenv(name, value)
    told = quick.environment.told()
    assert {name: told.get(name) for name in variables | expected} == variables | expected
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
    finish.write_lab_settings(tmp_path)
    finish.lead_to_course(tmp_path)
    written = json.loads((tmp_path / "share/jupyter/lab/settings/overrides.json").read_text())
    assert written["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
    way = (tmp_path / "course.pth").read_text(encoding="utf-8")
    assert os.path.samefile(tmp_path / way, ROOT) and (windows or not os.path.isabs(way))


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
    make_environment(quick, "an older version of the course")
    quick.environment.write(os.path.join(quick.environment.VENV, "lib", "dask"), "precious")
    before = files(quick)
    quick.environment.install.side_effect = [outcome, True]
    quick.environment.run.side_effect = lambda command, **_: finished or quick.environment.FINISH not in command
    assert words in message_of(quick.main, ["lab"])
    assert files(quick) == before | {".venv/course-setup.txt": quick.environment.UNFINISHED}
    quick.environment.run.side_effect = None
    quick.main(["lab"])
    assert installed(quick) == [("setup", False), ("setup", True)] and quick.environment.is_installed("setup")


@pytest.mark.skipif(windows, reason="Windows locks in another way")
def test_only_another_set_up_keeps_a_set_up_out(quick, monkeypatch):
    """Also one that was killed, as long as a program of it runs."""
    before, children = files(quick), []
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


def test_the_kernel_for_another_jupyter_knows_the_course(tmp_path):
    """Registered as `python course.py kernel` does, it is our Python, which imports the helpers from anywhere."""
    printed_by(*COURSE.COMMANDS["kernel"], JUPYTER_DATA_DIR=str(tmp_path))
    kernel = json.loads((tmp_path / "kernels" / "larger-than-memory" / "kernel.json").read_text(encoding="utf-8"))
    assert kernel["argv"][0] == sys.executable and kernel["env"] == {"PYTHONPATH": ""}
    printed_by("-c", "import course_helpers.objects", cwd=tmp_path, PYTHONPATH="")


# ----------------------------------------------------------------------------------- Binder, README, links


def test_environment_for_binder_and_conda():
    environment = yaml.safe_load(read("environment.yml"))
    python, notebook, *others = environment["dependencies"]
    assert python == "python=3.12", "exactly so: repo2docker misreads anything else"
    jupyterlab = re.search(r"^jupyterlab==4(\.\d+)", PINS_TEXT, re.M)[1]
    assert notebook == f"notebook=7{jupyterlab}", "write the notebook of this JupyterLab"
    assert others == ["pip", {"pip": ["-r requirements.txt"]}]
    assert {"python tools/finish.py", "python tools/finish.py warm-up"} <= set(read("postBuild").splitlines())


def test_readme_lists_every_lesson_and_its_badge_opens_the_first():
    """As long as no repository is filled in, README shows no badge; the rest of the line is right in any case."""
    text = read("README.md")
    assert builder.with_contents(text) == text, "run: python course.py build"
    address = r"https://mybinder\.org/v2/gh/([\w.-]+/[\w.-]+)/HEAD\?urlpath=lab/tree/([^)]+)"
    ((line, repository, path),) = re.findall(rf"^(.*{address}.*)$", text, re.M)
    assert path == "notebooks/_begin_here.ipynb" and (ROOT / path).exists()
    shown = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    assert (line in shown) == (repository != "OWNER/REPOSITORY")


def test_links_lead_somewhere():
    pages = ["README.md", "data/README.md", "notebooks/glossary.md", "teachers_guide.md"]
    places = [(page, os.path.dirname(page)) for page in pages]
    places += [(source, folder) for source in builder.lessons() for folder in ("notebooks", "notebooks/solutions")]
    for page, folder in places:
        prose = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if not re.match(r"[a-z]+:|#", target):
                assert (ROOT / folder / target.split("#")[0]).exists(), f"in {folder}, {page} links to {target}"


@pytest.mark.parametrize("command", [["check", "."], ["format", "--check", "."]], ids=lambda command: command[0])
def test_code_is_clean(command):
    """Unused names, wrong order of imports and the like; `ruff check` and `ruff format` say and mend it."""
    printed_by("-m", "ruff", *command)
