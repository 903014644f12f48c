"""OME-Zarr in a bucket of a real S3 server on this machine: written, read back, and refused with a sentence."""

import json
import os
import pickle
import shutil
import subprocess
import sysconfig
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cloudpickle
import dask
import dask.array as da
import numpy as np
import obstore
import pytest
import zarr
from processes import free_ports, wait_until, web_server
from test_cluster_script import in_this_process

from course_helpers import buckets
from course_helpers.buckets import file_sizes, store_at, upload
from course_helpers.image_files import open_image
from course_helpers.pyramids import open_pyramid, write_pyramid
from course_helpers.storage import CountingStore, StorageError, check_store, write_verified

PIXELS = np.random.default_rng(0).integers(0, 1000, (600, 500), dtype=np.uint16)
RIGHTS = {"owner": ["Admin"], "course": ["Read", "Write", "List"], "anonymous": ["Read:public", "List:public"]}
KEY = {"AWS_ACCESS_KEY_ID": "course", "AWS_SECRET_ACCESS_KEY": "confidential"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of an S3 server with two buckets."""
    folder = tmp_path_factory.mktemp("server")
    users = [{"name": name, "actions": rights} for name, rights in RIGHTS.items()]
    users = [user | {"credentials": [{"accessKey": user["name"], "secretKey": "confidential"}]} for user in users]
    (folder / "users.json").write_text(json.dumps({"identities": users}))
    names = [f"{name}.port{kind}" for name in ("s3", "master", "volume", "filer") for kind in ("", ".grpc")]
    ports = dict(zip(names, free_ports(len(names))))
    options = {"dir": folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.config": folder / "users.json", **ports}
    options |= {"s3.port.iceberg": 0, "s3.port.lance": 0, "s3.iam": "false", "master.telemetry": "false"}
    options |= {"master.volumeSizeLimitMB": 64, "volume.max": 100}
    address = f"http://127.0.0.1:{ports['s3.port']}"
    weed = Path(sysconfig.get_path("scripts"), "weed.exe" if os.name == "nt" else "weed")
    command = [weed, "server", "-s3", "-filer", *(f"-{name}={value}" for name, value in options.items())]
    with open(folder / "log.txt", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            for bucket in ("private", "public"):  # which the server makes for its owner
                wait_until(partial(is_stored, bucket, address, process), "the server stores a file")
            yield address
        finally:
            process.kill()
            for port in ports.values():  # it lets nobody choose another folder
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink()


def is_stored(bucket, server, process):
    """Whether a server stores a first file in a bucket."""
    assert process.poll() is None, "the server has ended"
    owner = {"access_key_id": "owner", "secret_access_key": "confidential", "client_options": {"allow_http": True}}
    with suppress(Exception):
        return obstore.put(obstore.store.S3Store(bucket, endpoint=server, **owner), "first", b"")


def become(monkeypatch, server, **key):
    """Let the environment be that of somebody with this key, or of nobody."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    variables = {"AWS_ENDPOINT_URL": server, "AWS_SHARED_CREDENTIALS_FILE": "none", "NO_PROXY": "127.0.0.1", **key}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setitem(buckets.PATIENCE, "retry_timeout", timedelta(seconds=0.2))


@pytest.fixture
def as_course(monkeypatch, server):
    become(monkeypatch, server, **KEY)


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pyramid") / "image.ome.zarr"
    write_pyramid(PIXELS, folder, pixel_size=0.5, chunks=(256, 256))
    return folder


@pytest.fixture
def address(request):
    """A place of its own for each test."""
    return f"s3://private/{request.node.name}.zarr"


def test_what_is_uploaded_opens_equal_for_nobody_in_particular_who_writes_nothing(monkeypatch, server, pyramid):
    become(monkeypatch, server, **KEY)
    upload(pyramid, address := "s3://public/image.ome.zarr")
    for key in ({}, {**KEY, "AWS_ACCESS_KEY_ID": "of another server", "AWS_SKIP_SIGNATURE": "true"}):
        become(monkeypatch, server, **key)
        levels = open_pyramid(store := CountingStore(address))
        assert store.bytes_read == 0
        assert np.array_equal(levels[0][:100, 300:], PIXELS[:100, 300:])
        assert store.reads == [("0/c/0/1", (pyramid / "0/c/0/1").stat().st_size)]
        for level, local in zip(levels, open_pyramid(pyramid), strict=True):
            assert np.array_equal(level[:], local[:])
        assert repr(open_image(address)) == repr(open_image(pyramid)), "it is described like one on disk"
        with pytest.raises(PermissionError):
            upload(pyramid, "s3://public/other.ome.zarr")


@pytest.mark.parametrize("error", [403, 404])
def test_an_image_opens_where_nobody_may_list_files(monkeypatch, pyramid, error):
    with web_server(pyramid.parents[1], error) as server:
        become(monkeypatch, server)
        address = f"{pyramid.parent.name}/{pyramid.name}"
        with pytest.raises(PermissionError if error == 403 else ConnectionError):
            file_sizes(f"s3://{address}")
        # for files that are not there, Amazon's servers answer with 403, those of the web with 404
        there = open_image(f"s3://{address}" if error == 403 else f"{server}/{address}")
        assert repr(there) == repr(open_image(pyramid))
        assert np.array_equal(there.array.compute(), PIXELS)
        assert np.array_equal(open_pyramid(f"s3://{address}")[0][:], PIXELS)


def test_the_key_may_lie_in_the_file_of_the_provider(monkeypatch, server, pyramid, address, tmp_path):
    file = tmp_path / "credentials"
    file.write_text("[lab]\naws_access_key_id = course\naws_secret_access_key = confidential\n")
    become(monkeypatch, server, AWS_SHARED_CREDENTIALS_FILE=str(file), AWS_PROFILE="lab")
    upload(pyramid, address)
    level = open_pyramid(address)[0]
    assert b"confidential" not in pickle.dumps(level)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # which is for other stores: this one keeps its server
    assert np.array_equal(pickle.loads(pickle.dumps(level))[:], PIXELS)
    become(monkeypatch, server, AWS_SHARED_CREDENTIALS_FILE=str(file))
    for text, error in (("[default]\nregion = eu", PermissionError), ("[default]\nconfidential", ValueError)):
        file.write_text(text)
        with pytest.raises(error) as raised:
            open_pyramid(address)
    assert str(file) in str(raised.value) and "confidential" not in str(raised.value)


REFUSED = {
    "no such key": ({**KEY, "AWS_ACCESS_KEY_ID": "nobody"}, "private", PermissionError, "AWS_ACCESS_KEY_ID"),
    "wrong secret": ({**KEY, "AWS_SECRET_ACCESS_KEY": "x"}, "private", PermissionError, "AWS_SECRET_ACCESS_KEY"),
    "no key": ({}, "private", PermissionError, "AWS_ACCESS_KEY_ID"),
    "no such bucket": (KEY, "nowhere", FileNotFoundError, "bucket"),
    "no server": ({**KEY, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "private", ConnectionError, "AWS_ENDPOINT_URL"),
}


@pytest.mark.parametrize("key, bucket, error, remedy", REFUSED.values(), ids=REFUSED)
def test_what_goes_wrong_is_said_in_a_sentence(monkeypatch, server, pyramid, key, bucket, error, remedy):
    become(monkeypatch, server, **key)
    address = f"s3://{bucket}/image.ome.zarr"
    for attempt in (open_pyramid, open_image, check_store, CountingStore, lambda place: upload(pyramid, place)):
        with pytest.raises(error) as raised:
            attempt(address)
        text = str(raised.value)
        assert address in text and remedy in text and "\n" not in text and len(text) < 300


def test_what_is_no_address_in_a_bucket_or_no_store_is_refused(as_course, pyramid, tmp_path, monkeypatch):
    for attempt, words in [
        (lambda: store_at("s3:///image.zarr"), "s3://bucket/"),
        (lambda: store_at(Path("s3://private/image.zarr")), "s3://bucket/"),
        (lambda: upload(pyramid, tmp_path / "copy.zarr"), "address"),
        (lambda: upload(pyramid / "0" / "c", "s3://private/chunks.zarr"), "no zarr.json"),
        (lambda: write_verified(PIXELS, "s3://private/image.zarr"), "upload"),
        (lambda: monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9") or store_at("s3://private/a"), "ENDPOINT_URL"),
        (lambda: monkeypatch.setenv("AWS_ENDPOINT_URL", "https:///") or store_at("s3://private/a"), "ENDPOINT_URL"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            attempt()
    assert not Path("s3:").exists()


def test_a_forbidden_chunk_or_a_lost_connection_is_said_and_is_no_damage(monkeypatch, pyramid, tmp_path):
    address, copy = "s3://bucket/image.zarr", shutil.copytree(pyramid, tmp_path / "bucket" / "image.zarr")
    (copy / "1" / "c" / "0" / "0").unlink()
    with web_server(tmp_path, 403) as server:
        become(monkeypatch, server, **KEY)
        with pytest.raises(PermissionError):  # an empty chunk, too, is forbidden here
            open_pyramid(address)[1][:]
        level, image = open_pyramid(address)[0], open_image(address).array
        target = zarr.open_array(store_at(address), path="0", mode="r+")
    for attempt in (lambda: level[:], partial(target.set_basic_selection, ..., 1), image[:9].compute):
        with pytest.raises(ConnectionError) as raised:
            attempt()
        assert address in str(raised.value) and "\n" not in str(raised.value)


def test_an_upload_is_complete_or_does_not_look_so_and_replaces_nothing(as_course, pyramid, address, monkeypatch):
    put, files = obstore.put, file_sizes(pyramid)

    def failing(store, name, file):
        if name == last and number % 2:
            raise KeyboardInterrupt
        return put(store, name, file.read_bytes()[: -1 if name == last else None])  # which does not arrive as a whole

    for number, last in enumerate(sorted(files)):  # the last of all arrives damaged
        place = f"{address}/{number}"
        with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, StorageError)):
            patch.setattr(obstore, "put", failing)
            upload(pyramid, place)
        there = set(file_sizes(place))
        assert not {last, "zarr.json"} & there
        for level in {name.rpartition("/")[0] for name in there if name.endswith("zarr.json")}:
            assert {name for name in files if name.startswith(level)} <= there
        upload(pyramid, place)
        assert file_sizes(place) == files and np.array_equal(open_pyramid(place)[0][:], PIXELS)
    for taken in (place, address):
        with pytest.raises(FileExistsError, match="nothing is written"):
            upload(pyramid, taken)
    assert file_sizes(address).keys() == {f"{number}/{name}" for number in range(len(files)) for name in files}


def test_workers_write_into_a_bucket_and_get_no_key_and_missing_and_damaged_chunks_are_found(as_course, address):
    target = zarr.create_array(store_at(address), shape=PIXELS.shape, chunks=(256, 256), dtype=PIXELS.dtype)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool, dask.config.set(scheduler="processes", pool=pool):
        da.store(da.from_array(PIXELS, chunks=(256, 256)), target, lock=False)
        stored = open_image(address).array
        assert np.array_equal(stored.compute(), PIXELS)
    assert b"confidential" not in pickle.dumps(target) + cloudpickle.dumps(stored)
    assert check_store(address) == (6, [], [], False)
    bucket = store_at(address).store
    obstore.delete(bucket, "c/0/0")
    obstore.put(bucket, "c/1/1", b"damaged")
    obstore.put(bucket, "c/2/0", b"")
    assert check_store(address) == (6, [(0, 0)], [(1, 1), (2, 0)], False)


def test_the_script_for_clusters_stores_into_a_bucket_and_goes_on_there(
    as_course, address, script, monkeypatch, capsys
):
    line = [address, "--shape", "300", "500", "--tile", "100", "100", "--labels"]
    monkeypatch.setattr(script, "cluster_of", in_this_process)
    for there in ("0 of 6", "5 of 6"):
        script.main(line)
        assert capsys.readouterr().out.startswith(f"{there} parts are there already")
        _, counts, labels, _ = script.plan(script.parsed(line))
        for name, expected in (("counts", counts), ("labels", labels)):
            stored = zarr.open_array(store_at(address), path=name, mode="r")[:]
            assert np.array_equal(stored, expected.compute(scheduler="threads"))
        obstore.delete(store_at(address).store, "counts/c/1/2")
    with pytest.raises(SystemExit, match="must be a folder with --table"):
        script.main([*line, "--table"])
