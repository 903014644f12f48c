"""Zarr stores in buckets, as object stores call their folders: opened by an address, and never complete too soon."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from configparser import Error, RawConfigParser
from contextlib import contextmanager
from datetime import timedelta
from glob import iglob
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url
from zarr.storage import ObjectStore

from course_helpers._engine.safe_writing import StorageError

# Who has none of these asks as nobody, which public buckets allow.
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
KEYS += ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_SKIP_SIGNATURE")
# A request is sent again for 20 seconds, which helps a busy server. Without encryption, only if AWS_ENDPOINT_URL says http://
PATIENCE = {"retry_timeout": timedelta(seconds=20)}
CLIENT = {"connect_timeout": "5s", "allow_http": True}


def store_at(place):
    """Return the Zarr store at an address such as ``"s3://bucket/slide.ome.zarr"``; any other place as it is.

    Which server is asked, and by whom, is said by environment variables, never by a notebook: AWS_ENDPOINT_URL, if it is not
    Amazon's, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; or by the file ``~/.aws/credentials``. Without a key, or with
    AWS_SKIP_SIGNATURE=true, nobody in particular asks, which public buckets allow. A store can be sent to workers; as no key
    goes with it, they need the same variables or file. It keeps its server.

    It is asked for at once, whether or not a Zarr store is there. Raises ValueError if the address names no bucket; and, also
    later, PermissionError, FileNotFoundError (no such bucket) or ConnectionError (no answer for a minute, at most).

    Examples
    --------
    >>> store_at("slide.ome.zarr")
    'slide.ome.zarr'
    """
    if not isinstance(place, (str, os.PathLike)) or not str(place).startswith("s3:/"):
        return place
    if not re.match("s3://[^/]", str(place)):  # such as s3:/bucket, which a Path makes of an address
        raise ValueError(f"the address is {str(place)!r}, but must be a text such as 's3://bucket/slide.ome.zarr'.")
    if not re.match("https?://[^/]|$", server := os.environ.get("AWS_ENDPOINT_URL", "")):
        raise ValueError(
            f"AWS_ENDPOINT_URL is {server!r}, but must be like 'https://s3.lab.org'. Correct or delete it."
        )
    who = {"credential_provider": key_in_file} if key_in_file() else {"skip_signature": True}
    if any(name in os.environ for name in KEYS):  # which obstore reads
        who = {}
    who |= {"endpoint": server} if server else {}
    with in_a_sentence(place):
        bucket = from_url(place, client_options=CLIENT, retry_config=PATIENCE, **who)
        try:
            obstore.get(bucket, "zarr.json")
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise
    return BucketStore(bucket)


class BucketStore(ObjectStore):
    """A Zarr store in a bucket, whose errors are those of Python, in a sentence."""

    def __str__(self):
        return f"s3://{self.store.config['bucket']}/{self.store.prefix or ''}"

    async def get(self, key, *request, **more):
        """Read a file; None if there is none. Instead of that, some buckets say that it is forbidden: so with metadata."""
        try:
            with in_a_sentence(self):
                return await super().get(key, *request, **more)
        except PermissionError:
            if not key.rpartition("/")[2].startswith((".z", "zarr.json")):  # chunks must not read as the fill value
                raise

    async def set(self, *request):
        """Write a file."""
        with in_a_sentence(self):
            await super().set(*request)

    async def list_prefix(self, prefix):
        """List the files whose names begin so."""
        with in_a_sentence(self):
            async for name in super().list_prefix(prefix):
                yield name


def key_in_file():
    """Return the key in the file that `aws configure` writes, as obstore takes it; None if there is none."""
    file, path = RawConfigParser(), os.environ.get("AWS_SHARED_CREDENTIALS_FILE", Path.home() / ".aws" / "credentials")
    try:
        file.read(path)
    except Error:  # whose text shows what is in the file
        raise ValueError(f"{path} is no file of keys, as `aws configure` writes it. Correct or delete it.") from None
    said = dict(file[profile]) if (profile := os.environ.get("AWS_PROFILE", "default")) in file else {}
    names = {"access_key_id": "aws_access_key_id", "secret_access_key": "aws_secret_access_key"}
    names["token"] = "aws_session_token"
    return (
        {key: said.get(name) for key, name in names.items()} | {"expires_at": None}
        if "aws_access_key_id" in said
        else None
    )


@contextmanager
def in_a_sentence(place):
    """Let what goes wrong with a bucket be an error of Python that says what helps."""
    opened = place.store.config if isinstance(place, BucketStore) else {}
    server = opened.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL", "Amazon")
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        code = re.search("<Code>(.*?)</Code>", str(error))
        code = code[1] if code else str(error).splitlines()[0].split(" - ")[-1]
        if code == "NoSuchBucket":
            raise FileNotFoundError(
                f"{server} has no bucket for {place}. Check the name, and the environment variable AWS_ENDPOINT_URL."
            ) from None
        if isinstance(error, FileNotFoundError):
            raise
        if re.search("status code: 40[13]", str(error)):
            raise PermissionError(
                f"{server} refuses {place}: {code}. Check the environment variables AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY; if the bucket is public, set AWS_SKIP_SIGNATURE to true."
            ) from None
        raise ConnectionError(
            f"{server} gives no good answer about {place}: {code}. Check the network, and the environment variables "
            "AWS_ENDPOINT_URL and AWS_REGION, then run this again."
        ) from None


def file_sizes(place):
    """Return a dict name -> bytes of all files in a folder, or at an address in a bucket."""
    store = store_at(place)
    if not isinstance(store, BucketStore):
        files = {Path(name).as_posix(): Path(place, name) for name in iglob("**", root_dir=place, recursive=True)}
        return {name: file.stat().st_size for name, file in files.items() if file.is_file()}
    with in_a_sentence(place):
        return {file["path"]: file["size"] for files in obstore.list(store.store) for file in files}


def upload(folder, address):
    """Copy a Zarr 3 store from a folder into a bucket, and read all of it back; the folder stays as it is.

    Nothing opens before it is complete: ``zarr.json`` files come after the chunks, and the one at the top is the last. After
    an interruption, run it again, which copies all anew. Meanwhile nobody else may write there.

    Parameters
    ----------
    folder : str or Path
        As `write_verified` or `write_pyramid` has written it.
    address : str
        Where there is nothing yet, or an unfinished copy: ``"s3://bucket/slide.ome.zarr"``.

    Raises
    ------
    FileNotFoundError, FileExistsError, ValueError, PermissionError, ConnectionError
        If there is no Zarr 3 store in the folder, something else at the address, or as in `store_at`.
    StorageError
        If a file reads back differently.
    """
    if not isinstance(store := store_at(address), BucketStore):
        raise ValueError(f"address is {address!r}, but must be one in a bucket, such as 's3://bucket/slide.ome.zarr'.")
    files, there = set(file_sizes(folder)), set(file_sizes(address))
    if "zarr.json" not in files:
        raise FileNotFoundError(f"{folder} holds no Zarr 3 store: it has no zarr.json. Write one with write_verified.")
    if "zarr.json" in there or there - files:
        raise FileExistsError(f"{address} holds {len(there)} files, so nothing is written. Choose another name.")

    def copy(name):
        with in_a_sentence(address):
            obstore.put(store.store, name, Path(folder, name))
            if bytes(obstore.get(store.store, name).bytes()) != Path(folder, name).read_bytes():
                obstore.delete(store.store, name)
                raise StorageError(f"{name} does not read back from {address} as it was written. Run this again.")

    metadata = {name for name in files if name.endswith("zarr.json")}
    with ThreadPoolExecutor() as pool:
        list(pool.map(copy, sorted(files - metadata)))  # after an error, what has not begun is given up
    for name in sorted(metadata, key=lambda name: -name.count("/")):
        copy(name)
