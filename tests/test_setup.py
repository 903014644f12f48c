"""The frame of the course: pinned packages, course.py, Binder, README and glossary agree with each other."""

import ast
import importlib.metadata
import importlib.util
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks" / "source").glob("[0-9]*.md"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS_TEXT = (ROOT / "requirements.txt").read_text(encoding="utf-8")
REPIN = "pyproject.toml and requirements.txt disagree: run python course.py pin"
windows = os.name == "nt"


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------- pinned packages


def pins():
    """Name, requirement, text of each pin in requirements.txt."""
    blocks = re.findall(r"^[A-Za-z0-9].*\n(?:[ ].*\n)*", PINS_TEXT, flags=re.MULTILINE)
    requirements = [Requirement(block.splitlines()[0].removesuffix("\\")) for block in blocks]
    return [
        (canonicalize_name(requirement.name), requirement, block) for requirement, block in zip(requirements, blocks)
    ]


def direct(group):
    texts = PROJECT["project"]["dependencies"] if group == "project" else PROJECT["dependency-groups"][group]
    return [Requirement(text) for text in texts]


def pinned_for(environment):
    return {name: pin for name, pin, _ in pins() if pin.marker is None or pin.marker.evaluate(environment)}


@pytest.mark.parametrize("group, origin", [("project", "(pyproject.toml)"), ("dev", "(pyproject.toml:dev)")])
def test_pins_name_the_direct_dependencies(group, origin):
    stated = {canonicalize_name(requirement.name) for requirement in direct(group)}
    assert {name for name, _, text in pins() if f"course-helpers {origin}" in text} == stated, REPIN


@pytest.mark.parametrize(
    "system, version", list(itertools.product(["linux", "darwin", "win32"], ["3.11", "3.12", "3.13"]))
)
def test_pins_satisfy_every_direct_dependency_on_every_system(system, version):
    pinned = pinned_for(
        {
            "sys_platform": system,
            "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[system],
            "os_name": "nt" if system == "win32" else "posix",
            "python_version": version,
            "python_full_version": f"{version}.5",
        }
    )
    for requirement in direct("project") + direct("dev"):
        pin = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(next(iter(pin.specifier)).version), REPIN


def test_pins_are_complete():
    """What the direct dependencies require in turn, with their extras, is pinned and installed in that version."""
    pinned = pinned_for({})
    waiting, done = direct("project") + direct("dev"), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        assert name in pinned, f"{requirement} is needed but not pinned. {REPIN}"
        assert requirement.specifier.contains(importlib.metadata.version(name), prereleases=True)
        assert pinned[name].specifier.contains(importlib.metadata.version(name)), f"another {name} is installed"
        for needed in map(Requirement, importlib.metadata.requires(name) or []):
            active = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras | {""})
            if active and (name, str(needed)) not in done:
                done.add((name, str(needed)))
                waiting.append(needed)


def test_pins_are_exact_and_hashed():
    assert len(pins()) > 100
    for name, pin, text in pins():
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)) and pin.url is None, name
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", text), f"{name} has no hash"


def test_pins_contain_no_address():
    assert not re.search(r"://|file:|--(extra-)?index|--find-links|[\w-]\.(org|com|net|io|dev)\b", PINS_TEXT)
    assert not re.search(r"^-", PINS_TEXT, flags=re.MULTILINE)


def test_python_versions_agree(course):
    supported = SpecifierSet(PROJECT["project"]["requires-python"])
    assert supported.contains("3.11") and not supported.contains("3.10")
    assert course.COMMANDS["pin"][course.COMMANDS["pin"].index("--python-version") + 1] == "3.11"
    assert "python course.py pin" in PINS_TEXT.splitlines()[1]


# ---------------------------------------------------------------------------------------------------- course.py


def load(folder):
    specification = importlib.util.spec_from_file_location("course_script", folder / "course.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def course(tmp_path):
    """course.py in a folder of its own, with requirements.txt but nothing else."""
    folder = tmp_path / "über uns"
    folder.mkdir()
    shutil.copy(ROOT / "course.py", folder)
    shutil.copy(ROOT / "requirements.txt", folder)
    return load(folder)


def files(course):
    """Everything in the course's folder, with what is written in it."""
    return {
        path.relative_to(course.ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in Path(course.ROOT).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def make_environment(course, marker=None):
    """Pretend that .venv was made; its Python is a file, so `run` is replaced."""
    write(course.PYTHON, "python")
    course.write_marker(course.fingerprint() if marker is None else marker)
    course.run = lambda *command, **options: True


def pretend_to_install(course, succeeds=True):
    def make_venv():
        write(course.PYTHON, "new python")

    def install():
        if isinstance(succeeds, BaseException):
            raise succeeds
        return succeeds

    course.make_venv, course.install_packages, course.install_course = make_venv, install, lambda: True


def message_of(function, *arguments):
    """What the program says when it ends itself."""
    with pytest.raises(SystemExit) as ending:
        function(*arguments)
    return str(ending.value)


def test_a_finished_environment_is_used_again(course):
    make_environment(course)
    assert course.is_set_up()


def test_line_endings_and_tool_settings_do_not_matter(course):
    make_environment(course)
    requirements = Path(course.REQUIREMENTS)
    requirements.write_bytes(requirements.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    write(Path(course.ROOT) / "pyproject.toml", "[tool.ruff]\n")
    assert course.is_set_up()


@pytest.mark.parametrize("damage", ["requirements", "unfinished", "empty marker", "no marker", "no python", "broken"])
def test_an_environment_that_does_not_fit_is_noticed(course, damage):
    make_environment(course)
    if damage == "requirements":
        with open(course.REQUIREMENTS, "a") as file:
            file.write("dask==1.0\n")
    elif damage == "unfinished":
        course.write_marker(course.UNFINISHED)
    elif damage == "empty marker":
        course.write_marker("")
    elif damage == "no marker":
        os.remove(course.MARKER)
    elif damage == "no python":
        os.remove(course.PYTHON)
    else:
        course.run = lambda *command, **options: False
    assert not course.is_set_up()


def test_a_moved_checkout_is_noticed(course, tmp_path):
    make_environment(course)
    os.rename(course.ROOT, tmp_path / "moved")
    moved = load(tmp_path / "moved")
    moved.run = lambda *command, **options: True
    assert not moved.is_set_up()


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 8, 0), (3, 10, 13)])
def test_old_pythons_are_told_so(course, monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", (*version, "final", 0))
    message = message_of(course.main, ["lab"])
    assert f"needs Python 3.11 or newer; this is Python {version[0]}.{version[1]}." in message


def test_old_pythons_can_read_course_py():
    text = read("course.py")
    assert text.isascii(), "Python 2 reads nothing else without being told"
    tree = ast.parse(text, feature_version=(3, 4))
    later = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Match, ast.AsyncFunctionDef)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, later)]
    used = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert used <= {"hashlib", "os", "re", "shlex", "shutil", "signal", "subprocess", "sys"}, "all are in Python 2.7"


@pytest.mark.parametrize("arguments", [[], ["nosuch"], ["--help"], ["Lab"]])
def test_unknown_commands_start_nothing(course, arguments):
    course.set_up = course.start = pytest.fail
    message = message_of(course.main, arguments)
    for command in course.COMMANDS:
        assert f"python course.py {command}" in message


@pytest.mark.parametrize("command", ["lab", "test", "build", "book", "bench", "pin"])
@pytest.mark.parametrize("ready", [True, False])
def test_commands_set_up_if_needed_and_pass_arguments_on(course, command, ready):
    calls = []
    course.is_set_up = lambda: ready
    course.set_up = lambda: calls.append("set up")
    course.start = lambda arguments: calls.append(arguments) or 7
    assert course.main([command, "-k", "a b"]) == 7
    assert calls == ([] if ready else ["set up"]) + [course.COMMANDS[command] + ["-k", "a b"]]


def test_commands_lead_somewhere(course):
    assert course.COMMANDS["lab"][-1] == "--ServerApp.root_dir=" + os.path.join(course.ROOT, "notebooks")
    for command in ("build", "book", "bench"):
        assert (ROOT / Path(course.COMMANDS[command][0]).relative_to(course.ROOT)).exists()


def test_programs_run_in_the_folder_undisturbed_by_other_environments(course, monkeypatch):
    for name in course.MISLEADING:
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("HTTPS_PROXY", "kept")
    course.PYTHON = sys.executable
    script = (
        "import os, sys; kept = os.environ['HTTPS_PROXY'] == 'kept' and sys.flags.utf8_mode == 1;"
        f"misled = set(os.environ) & set({course.MISLEADING}); here = os.path.samefile(os.getcwd(), sys.argv[1]);"
        "first = os.environ['PATH'].split(os.pathsep)[0] == os.path.dirname(sys.executable);"
        "sys.exit(3 if kept and here and first and not misled else 4)"
    )
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert course.start(["-c", script, course.ROOT]) == 3
    finally:
        signal.signal(signal.SIGTERM, before)
    assert course.run([sys.executable, "-c", script.replace("exit(3", "exit(0"), course.ROOT])


def test_set_up_from_nothing(course, capsys):
    pretend_to_install(course)
    course.set_up()
    course.run = lambda *command, **options: True
    assert course.is_set_up()
    assert "about a minute" in capsys.readouterr().out


def test_settings_of_jupyterlab_are_written(course, tmp_path):
    for _ in range(2):
        course.write_lab_settings(str(tmp_path))
    written = json.loads((tmp_path / "share/jupyter/lab/settings/overrides.json").read_text())
    assert written["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
    assert "course.write_lab_settings(sys.prefix)" in (ROOT / "postBuild").read_text(encoding="utf-8")


@pytest.mark.parametrize("marker", ["unfinished", ""])
def test_an_interrupted_set_up_is_done_again(course, marker):
    make_environment(course, marker)
    write(Path(course.VENV) / "half", "a package")
    pretend_to_install(course)
    course.set_up()
    assert course.is_set_up()
    assert ".venv/half" not in files(course)


@pytest.mark.parametrize(
    "failure",
    [False, KeyboardInterrupt(), OSError(28, "No space left on device"), subprocess.CalledProcessError(1, "x")],
)
def test_a_failed_set_up_leaves_what_was_there(course, failure):
    make_environment(course, "an older version of the course")
    write(Path(course.VENV) / "lib" / "dask", "precious")
    before = files(course)
    pretend_to_install(course, failure)
    message = message_of(course.main, ["lab"])
    assert files(course) == before
    if failure is False:
        assert "no network" in message and "disk" in message and "still there" in message
    elif isinstance(failure, KeyboardInterrupt):
        assert "Stopped" in message
    else:
        assert str(failure) in message and "write into this folder" in message


@pytest.mark.parametrize("marker", [None, "unfinished", ""])
def test_a_failed_first_set_up_leaves_nothing(course, marker):
    before = files(course)
    if marker is not None:
        make_environment(course, marker)
    pretend_to_install(course, False)
    assert "still there" not in message_of(course.set_up)
    assert files(course) == before and not os.path.exists(course.VENV)


@pytest.mark.parametrize("succeeds", [True, False])
def test_after_a_killed_update_nothing_is_lost(course, succeeds):
    make_environment(course, "an older version of the course")
    os.rename(course.VENV, course.PREVIOUS)
    make_environment(course, course.UNFINISHED)
    pretend_to_install(course, succeeds)
    course.start = lambda arguments: 0
    if succeeds:
        assert course.main(["lab"]) == 0
        assert (
            course.is_set_up()
            and files(course)[Path(course.PYTHON).relative_to(course.ROOT).as_posix()] == "new python"
        )
    else:
        message_of(course.main, ["lab"])
        assert course.read_marker() == "an older version of the course"
    assert not os.path.exists(course.PREVIOUS) and not os.path.exists(course.TRASH)


@pytest.mark.parametrize("kind", ["folder", "file", "dead link"])
def test_somebody_elses_venv_is_left_alone(course, kind):
    if kind == "folder":
        write(Path(course.VENV) / "pyvenv.cfg", "home = elsewhere")
    elif kind == "file":
        write(course.VENV, "mine")
    elif windows:
        pytest.skip("links need special rights on Windows")
    else:
        os.symlink("nowhere", course.VENV)
    before = files(course)
    pretend_to_install(course)
    assert "not made by course.py" in message_of(course.main, ["lab"])
    assert files(course) == before and os.path.lexists(course.VENV)


def test_too_little_disk_space_is_said_beforehand(course, monkeypatch):
    make_environment(course, "an older version of the course")
    before = files(course)
    pretend_to_install(course)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**10, 10**10 - 10**8, 10**8))
    assert "2.0 GB needed, 0.1 GB free" in message_of(course.set_up)
    assert files(course) == before


def test_missing_venv_module_is_named(course, monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    assert "apt install python3-venv" in message_of(course.set_up)


def test_an_active_environment_is_not_replaced(course, monkeypatch):
    make_environment(course, "an older version of the course")
    monkeypatch.setattr(sys, "prefix", course.VENV)
    assert "deactivate" in message_of(course.set_up)


@pytest.mark.skipif(windows, reason="Windows protects files in use by itself")
def test_two_set_ups_do_not_disturb_each_other(course):
    make_environment(course, course.UNFINISHED)
    before = files(course)
    with course.lock():
        assert "already" in message_of(course.set_up)
    assert files(course) == before


@pytest.mark.parametrize(
    "results, tried, success",
    [((True, True), "pip uv", True), ((True, False, True), "pip uv pip", True), ((False,), "pip", False)],
)
def test_packages_are_installed_with_hashes_only(course, results, tried, success):
    os.mkdir(course.VENV)
    commands, answers = [], iter(results)
    course.run = lambda command, **options: commands.append(command) or next(answers)
    assert course.install_packages() is success
    assert " ".join(command[2] for command in commands) == tried
    assert all("--require-hashes" in command and "install" in command for command in commands)
    assert course.REQUIREMENTS not in commands[0]
    for command in commands[1:]:
        assert course.REQUIREMENTS in command
        assert command[2] == "pip" or command[command.index("--python") + 1] == course.PYTHON
    only_uv = Path(commands[0][-1]).read_text(encoding="utf-8")
    assert only_uv.startswith("uv==") and only_uv in PINS_TEXT
    lines = only_uv.splitlines()
    assert len(lines) > 5 and all("--hash=sha256:" in line for line in lines[1:])


# -------------------------------------------------------------------------------------- Binder, workflow, licences


def test_environment_for_binder_and_conda():
    environment = yaml.safe_load(read("environment.yml"))
    names = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert names == ["python=3.12", "pip"], "exactly so: repo2docker misreads anything else"
    assert environment["dependencies"][-1] == {"pip": ["-r requirements.txt"]}
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains("3.12")
    for folder in ("binder", ".binder"):
        assert not (ROOT / folder).exists(), "it would hide environment.yml"


@pytest.mark.parametrize("name", ["postBuild", ".ci/run"])
def test_scripts_stop_at_the_first_failure(name):
    content = (ROOT / name).read_bytes()
    assert b"\r" not in content or windows
    lines = content.decode().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail"
    assert windows or os.access(ROOT / name, os.X_OK), f"run: chmod +x {name}"


def test_workflow_runs_the_test_command_on_three_systems():
    workflow = yaml.safe_load(read(".github/workflows/test.yml"))
    triggers = workflow[True]  # YAML takes the word "on" for a truth value
    assert {"push", "pull_request", "schedule"} <= set(triggers)
    job = workflow["jobs"]["test"]
    assert {"ubuntu-latest", "macos-latest", "windows-latest"} == set(job["strategy"]["matrix"]["os"])
    assert {"3.11", "3.13"} <= set(job["strategy"]["matrix"]["python"])
    assert any(step.get("run", "").startswith("python course.py test") for step in job["steps"])


def test_citation():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["project"]["version"]
    assert all(citation[key] for key in ("title", "message", "authors"))
    assert citation["license"] == [PROJECT["project"]["license"], "CC-BY-4.0"]
    assert citation["references"][0]["authors"][0]["family-names"] == "Haase"


def test_licences():
    assert read("LICENSE").startswith("BSD 3-Clause License")
    assert "CC-BY-4.0" in read("LICENSE-TEXT")


# --------------------------------------------------------------------------------------- README, glossary, links


def title_and_minutes(source):
    text = source.read_text(encoding="utf-8")
    return re.search(r"^# (.+)$", text, re.MULTILINE)[1], re.search(
        r"^\*\*Time:\*\* (\d+) minutes", text, re.MULTILINE
    )[1]


def test_readme_lists_every_lesson():
    expected = []
    for source in SOURCES:
        notebook = f"{source.stem}.ipynb"
        if (ROOT / "notebooks" / notebook).exists():
            title, minutes = title_and_minutes(source)
            link = f"[{int(source.stem[:2])}. {title}](notebooks/{notebook})"
            expected.append(f"| {link} | [solution](notebooks/solutions/{notebook}) | {minutes} |")
    assert expected
    rows = [line for line in read("README.md").splitlines() if re.match(r"\| \[\d", line)]
    assert rows == expected, "write into README.md:\n" + "\n".join(expected)


def test_readme_names_the_commands():
    text = read("README.md")
    for command in ("lab", "test", "build", "book", "pin"):
        assert f"python course.py {command}" in text


def test_badge_opens_the_first_lesson():
    text = read("README.md")
    addresses = re.findall(r"https://mybinder\.org/v2/\S+", text)
    assert len(addresses) == 1, "one place names the repository, so that one line is to be changed"
    path = re.fullmatch(r"https://mybinder\.org/v2/gh/[\w.-]+/[\w.-]+/HEAD\?urlpath=lab/tree/(\S+)", addresses[0])[1]
    assert path == f"notebooks/{SOURCES[0].stem}.ipynb" and (ROOT / path).exists()
    assert "[binder]: " + addresses[0] in text and "[![" in text and "][binder]" in text


def relative_links(text):
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]


@pytest.mark.parametrize("name", ["README.md", "data/README.md", "notebooks/glossary.md"])
def test_links_of_pages_lead_somewhere(name):
    for target in relative_links(read(name)):
        assert ((ROOT / name).parent / target).exists(), f"{name} links to {target}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
@pytest.mark.parametrize("folder", ["notebooks", "notebooks/solutions"])
def test_links_of_lessons_lead_somewhere(source, folder):
    for target in relative_links(source.read_text(encoding="utf-8")):
        assert (ROOT / folder / target).exists(), f"in {folder}, {source.stem} links to {target}"


def test_picture_is_small():
    picture = ROOT / "notebooks" / "images" / "overview.png"
    assert "notebooks/images/overview.png" in read("README.md")
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 300_000


def test_code_is_clean():
    """Unused names, wrong order of imports and the like: `ruff check` says which."""
    result = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
