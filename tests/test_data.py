"""Downloads are tried against a server on this machine that serves, stalls, truncates and lies."""

import errno
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pooch
import pytest
import skimage.data
import tifffile

from course_helpers import data
from course_helpers.data import DataError, ImageFile

LICENCE = "CC-BY 4.0, A. Nybody"
PIXELS = np.random.default_rng(0).integers(0, 255, (2, 300, 400), dtype=np.uint8)
PAGE = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"


def git_blob(content):
    return "git-blob:" + hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """The path decides how the server behaves; `server.content` is the file."""

    def log_message(self, *args):
        pass

    def answer(self, body, length=None, status=200):
        self.send_response(status)
        self.send_header("Content-Length", len(body) if length is None else length)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.requests.append(self.path)
        content, half = self.server.content, self.server.content[: len(self.server.content) // 2]
        match self.path.strip("/"):
            case "good":
                self.answer(content)
            case "together":
                self.server.barrier.wait(60)  # answers no one before both have asked
                self.answer(content)
            case "without-length":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(content)
            case "truncated-without-length":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(half)
            case "truncated":
                self.answer(half, len(content))
            case "dropped":
                self.answer(half, len(content))
                linger = b"\1\0\0\0\0\0\0\0" if sys.platform != "win32" else b"\1\0\0\0"
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # reset, no goodbye
                self.connection.close()
            case "silent":
                self.server.release.wait(10)  # then hangs up, so that only a timeout of ours is a timeout
            case "stalled":
                self.answer(half, len(content))
                self.wfile.flush()
                self.server.release.wait(10)  # then hangs up, so that only a timeout of ours is a timeout
            case "page":
                self.answer(PAGE)
            case "empty":
                self.answer(b"")
            case "other":
                self.answer(bytes(reversed(content)))
            case "one-bit":
                self.answer(content[:-1] + bytes([content[-1] ^ 1]))
            case "longer":
                self.answer(content + b"\0")
            case "nonsense-length":
                self.answer(content, "many")
            case "circle":
                self.send_response(302)
                self.send_header("Location", "/circle")
                self.end_headers()
            case status:
                self.answer(PAGE, status=int(status))


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *args: None  # clients that hang up are part of the tests
    server.requests, server.release, server.barrier = [], threading.Event(), threading.Barrier(2)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "course data"
    monkeypatch.setenv("COURSE_DATA", str(folder))
    monkeypatch.setattr(skimage.data, "data_dir", str(tmp_path / "scikit-image"))
    return folder


@pytest.fixture
def image(server, folder, tmp_path):
    """A two-channel TIFF on the server, as an ImageFile whose path says how the server behaves."""
    original = tmp_path / "original.tif"
    tifffile.imwrite(original, PIXELS, imagej=True, metadata={"axes": "CYX"})
    server.content = original.read_bytes()

    def make(behaviour, **changes):
        address = f"http://127.0.0.1:{server.server_port}/{behaviour}"
        made = ImageFile("slide.tif", address, git_blob(server.content), LICENCE, (300, 400), channel=1)
        return replace(made, **changes)

    return make


def failure(image, folder, timeout=20):
    """Fetch, expect an error that helps and a folder without leftovers; return the error's text."""
    before = sorted(folder.glob("*"))
    with pytest.raises(DataError) as caught:
        data.fetch(image, timeout)
    text = str(caught.value)
    for needed in (image.name, image.address, LICENCE, str(folder / image.name)):
        assert needed in text
    assert caught.value.__context__ is None or caught.value.__suppress_context__  # one error for the reader, not three
    assert sorted(folder.glob("*")) == before
    return text


# The folder


def test_folder_is_the_project_s_from_every_working_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_DATA", raising=False)
    here = data.data_folder()
    monkeypatch.chdir(tmp_path)
    assert data.data_folder() == here == Path(data.__file__).resolve().parents[1] / "data"
    monkeypatch.setenv("COURSE_DATA", "")
    assert data.data_folder() == here


def test_folder_of_a_package_without_its_project_is_the_user_s_cache(monkeypatch, tmp_path):
    package = tmp_path / "site-packages" / "course_helpers"
    package.mkdir(parents=True)
    shutil.copy(data.__file__, package)
    monkeypatch.delenv("COURSE_DATA", raising=False)
    monkeypatch.setattr(data, "__file__", str(package / "data.py"))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    assert data.data_folder() == tmp_path / "cache" / "course_helpers"
    assert data.data_folder().is_dir()


def test_folder_from_the_environment_is_created(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "a" / "b"))
    assert data.data_folder() == tmp_path / "a" / "b"
    assert data.data_folder().is_dir()


def test_folder_understands_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("COURSE_DATA", os.path.join("~", "slides"))
    assert data.data_folder() == tmp_path / "slides"


@pytest.mark.parametrize("chosen", ["slides", os.path.join("..", "slides")])
def test_folder_that_depends_on_the_working_directory_is_refused(monkeypatch, tmp_path, chosen):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_DATA", chosen)
    with pytest.raises(DataError, match="absolute path"):
        data.data_folder()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file_or_cannot_be_created_is_named(monkeypatch, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    monkeypatch.setenv("COURSE_DATA", str(file))
    with pytest.raises(DataError, match=r"notes\.txt cannot be the data folder: it is a file"):
        data.data_folder()
    monkeypatch.setenv("COURSE_DATA", str(file / "inside"))
    with pytest.raises(DataError, match="inside cannot be the data folder: .+ Set COURSE_DATA"):
        data.data_folder()
    assert file.read_text() == "mine"


# Checksums


@pytest.mark.parametrize(
    "content, blob",
    [(b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"), (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a")],
)
def test_checksum_is_the_name_git_gives(tmp_path, content, blob):
    (tmp_path / "file").write_bytes(content)
    assert data.checksum(tmp_path / "file", "git-blob") == f"git-blob:{blob}"
    assert data.checksum(tmp_path / "file", "sha256") == f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_checksum_agrees_with_git(tmp_path):
    (tmp_path / "large").write_bytes(np.random.default_rng(1).bytes(3_000_001))
    told = subprocess.run(["git", "hash-object", tmp_path / "large"], capture_output=True, text=True, check=True)
    assert data.checksum(tmp_path / "large", "git-blob") == f"git-blob:{told.stdout.strip()}"


# Downloads that work


@pytest.mark.parametrize("behaviour", ["good", "without-length"])
def test_download_is_complete_and_done_once(image, folder, server, behaviour, capfd):
    path = data.fetch(image(behaviour))
    assert path == folder / "slide.tif"
    assert path.read_bytes() == server.content
    assert os.listdir(folder) == ["slide.tif"]
    assert "B/s" in capfd.readouterr().err  # the progress bar
    assert data.fetch(image(behaviour)) == path
    assert len(server.requests) == 1
    assert capfd.readouterr() == ("", "")


def test_download_may_have_any_checksum(image, folder, server):
    checksum = "sha256:" + hashlib.sha256(server.content).hexdigest()
    assert data.fetch(image("good", checksum=checksum)).read_bytes() == server.content


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no umask")
def test_download_has_the_permissions_of_any_new_file(image, folder):
    path = data.fetch(image("good"))
    (folder / "new").touch()
    assert path.stat().st_mode == (folder / "new").stat().st_mode


def test_file_put_there_by_hand_needs_no_network(image, folder, server):
    folder.mkdir()
    (folder / "slide.tif").write_bytes(server.content)
    assert np.array_equal(data.load(image("500")), PIXELS[1])
    assert server.requests == []


def test_copy_that_scikit_image_downloaded_is_used_if_genuine(image, folder, server):
    shared = Path(skimage.data.data_dir)
    shared.mkdir()
    (shared / "slide.tif").write_bytes(server.content)
    assert data.fetch(image("500")) == shared / "slide.tif"
    (shared / "slide.tif").write_bytes(server.content[:-1])
    assert data.fetch(image("good")) == folder / "slide.tif"


def test_two_processes_may_ask_at_once(image, folder, server):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        asked = [processes.submit(data.load, image("together")) for _ in range(2)]
        assert all(np.array_equal(future.result(60), PIXELS[1]) for future in asked)
    assert server.requests == ["/together"] * 2
    assert os.listdir(folder) == ["slide.tif"]


def test_replacing_may_fail_when_another_process_was_first(image, folder, server, monkeypatch):
    def refuse(source, target):
        Path(target).write_bytes(server.content)
        raise PermissionError(errno.EACCES, "Access is denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert data.fetch(image("good")).read_bytes() == server.content
    assert os.listdir(folder) == ["slide.tif"]


# Downloads that do not work


@pytest.mark.parametrize(
    "behaviour, cause",
    [
        ("404", "the server answered 404 Not Found"),
        ("500", "the server answered 500 Internal Server Error"),
        ("page", "a web page came instead, perhaps your network's login"),
        ("other", "other content came instead"),
        ("one-bit", "other content came instead"),
        ("longer", "other content came instead"),
        ("empty", r"other content came instead \(0 bytes\)"),
        ("truncated-without-length", "other content came instead"),
        ("truncated", r"the file ended early, got 1\d{5} of 2\d{5} bytes"),
        ("dropped", "the connection broke off|the file ended early"),
        ("nonsense-length", "the server's answer makes no sense"),
        ("circle", "the server's answer makes no sense"),
    ],
)
def test_server_that_truncates_and_lies(image, folder, behaviour, cause):
    folder.mkdir()
    assert re.search(cause, failure(image(behaviour), folder))


@pytest.mark.parametrize("behaviour", ["silent", "stalled"])
def test_server_that_stalls(image, folder, behaviour):
    assert "the server sent nothing for 0.3 seconds" in failure(image(behaviour), folder, timeout=0.3)


def test_no_server(image, folder):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/slide.tif"
        assert "no connection to the server, perhaps no network" in failure(image("", address=address), folder)


def test_no_network(image, folder, monkeypatch):
    def no_name(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    text = failure(image("", address="http://slides.invalid/slide.tif"), folder)
    assert "no connection to the server, perhaps no network" in text


def test_a_failed_download_can_be_tried_again(image, folder):
    failure(image("truncated"), folder)
    assert np.array_equal(data.load(image("good")), PIXELS[1])


@pytest.mark.parametrize("content", [b"", b"my own notes", None], ids=["empty", "notes", "truncated"])
def test_wrong_file_is_reported_and_left_alone(image, folder, server, content):
    folder.mkdir()
    content = server.content[:-1] if content is None else content
    (folder / "slide.tif").write_bytes(content)
    text = failure(image("good"), folder)
    assert "slide.tif is damaged, incomplete or another image" in text and "Move it away" in text
    assert (folder / "slide.tif").read_bytes() == content
    assert server.requests == []


def test_something_unreadable_in_its_place_is_reported(image, folder, server):
    (folder / "slide.tif").mkdir(parents=True)
    assert "slide.tif cannot be read" in failure(image("good"), folder)
    assert server.requests == []


def test_full_disk(image, folder, monkeypatch):
    def write(self, address, partial, pooch):
        Path(partial).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", write)
    assert "the file cannot be written: No space left" in failure(image("good"), folder)


def test_replacing_that_is_not_allowed(image, folder, monkeypatch):
    def refuse(source, target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert "the file cannot be written: Permission denied" in failure(image("good"), folder)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_interrupted_download_leaves_nothing(image, folder, server):
    code = f"""
        from course_helpers.data import ImageFile, fetch
        fetch({image("stalled")!r}, timeout=60)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not any(part.stat().st_size for part in folder.glob("*.part")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(list(folder.glob("slide.tif.*.part"))) == 1
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()
    assert os.listdir(folder) == []


# Pixels


LAYOUTS = {
    "ImageJ": {"imagej": True, "metadata": {"axes": "CYX"}},
    "one page per channel": {"photometric": "minisblack"},
    "OME": {"ome": True, "metadata": {"axes": "CYX"}},
    "one page for all channels": {"photometric": "rgb", "planarconfig": "separate"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_channel_is_read_from_every_layout(image, folder, server, tmp_path, layout):
    pixels = np.concatenate([PIXELS, PIXELS[:1]]) if "all" in layout else PIXELS
    tifffile.imwrite(tmp_path / "layout.tif", pixels, **LAYOUTS[layout])
    server.content = (tmp_path / "layout.tif").read_bytes()
    channel = data.load(image("good"))
    assert channel.dtype == np.uint8 and np.array_equal(channel, PIXELS[1])


def test_all_channels(image, folder):
    assert np.array_equal(data.load(image("good", channel=None, shape=(2, 300, 400))), PIXELS)


@pytest.mark.parametrize(
    "changes, cause",
    [
        ({"shape": (400, 300)}, r"it holds an array of \(300, 400\) uint8, expected \(400, 300\) uint8"),
        ({"dtype": "uint16"}, "expected .* uint16"),
        ({"channel": 2}, "tifffile cannot read it"),
        ({"channel": None}, r"it holds an array of \(2, 300, 400\) uint8"),
    ],
)
def test_unexpected_pixels(image, folder, changes, cause):
    with pytest.raises(DataError, match=cause):
        data.load(image("good", **changes))


def test_genuine_file_that_is_no_tiff(image, folder, server):
    server.content = PAGE
    with pytest.raises(DataError, match="tifffile cannot read it"):
        data.load(image("good"))


# The images of the course


@pytest.mark.parametrize("picture", [data.lecture_slide, data.human_mitosis])
def test_pictures_of_the_course_without_network(picture, folder, monkeypatch):
    def no_name(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    image = data.LECTURE_SLIDE if picture is data.lecture_slide else data.HUMAN_MITOSIS
    with pytest.raises(DataError) as caught:
        picture()
    for needed in (image.name, "perhaps no network", image.address, image.licence, str(folder / image.name)):
        assert needed in str(caught.value)


def test_lecture_slide_is_channel_1_of_the_verified_file(folder, monkeypatch):
    pixels = np.zeros((2, 2000, 5000), np.uint8)
    pixels[1, 3, 4] = 5
    folder.mkdir()
    tifffile.imwrite(folder / data.LECTURE_SLIDE.name, pixels, imagej=True)
    with pytest.raises(DataError, match="another image"):
        data.lecture_slide()
    made_up = git_blob((folder / data.LECTURE_SLIDE.name).read_bytes())
    monkeypatch.setattr(data, "LECTURE_SLIDE", replace(data.LECTURE_SLIDE, checksum=made_up))
    assert np.array_equal(data.lecture_slide(), pixels[1])


def test_lecture_slide_is_the_file_of_the_lecture():
    assert data.LECTURE_SLIDE.checksum == "git-blob:317ebead66298d2e1eec022018b44b52c9d5e2ff"
    assert data.LECTURE_SLIDE.address.endswith(f"/BioImageAnalysisNotebooks/main/data/{data.LECTURE_SLIDE.name}")
    assert "CC-BY 4.0, Theresa Suckert, OncoRay" in data.LECTURE_SLIDE.licence


def test_human_mitosis_is_the_file_of_scikit_image():
    registry = pytest.importorskip("skimage.data._registry", reason="this scikit-image keeps its registry elsewhere")
    assert data.HUMAN_MITOSIS.checksum == f"sha256:{registry.registry['data/mitosis.tif']}"
    assert data.HUMAN_MITOSIS.address == registry.registry_urls["data/mitosis.tif"]


def test_real_image_comes_through_a_download_unchanged(image, folder, server):
    if "COURSE_TEST_IMAGES" not in os.environ:
        pytest.skip("COURSE_TEST_IMAGES does not name the folder with the real images")
    original = Path(os.environ["COURSE_TEST_IMAGES"]) / "human_mitosis.tif"
    server.content = original.read_bytes()
    address, checksum = image("good").address, git_blob(server.content)
    nuclei = data.load(replace(data.HUMAN_MITOSIS, address=address, checksum=checksum))
    assert np.array_equal(nuclei, skimage.io.imread(original))
    assert nuclei.shape == (512, 512) and nuclei.dtype == np.uint8 and nuclei.std() > 1


def test_readme_tells_what_the_code_knows():
    readme = (Path(data.__file__).parents[1] / "data" / "README.md").read_text(encoding="utf-8")
    for image in (data.LECTURE_SLIDE, data.HUMAN_MITOSIS):
        for fact in (image.name, image.address, image.checksum.partition(":")[2]):
            assert fact in readme
        assert " × ".join(map(str, image.shape)) in readme and image.dtype in readme
