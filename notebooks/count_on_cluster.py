"""Count the objects of an image on a cluster, part by part. Run the same line again to resume.

    python count_on_cluster.py counts.zarr                               the virtual slide, on this machine
    python count_on_cluster.py counts.zarr --image slide.zarr            your slide
    python count_on_cluster.py counts.zarr --image slide.zarr --cluster slurm --workers 64

Any file that lesson 8 opens will do, and any function that labels a window of the image:

    --segment mine.py:find --with threshold=32 --reach 9                 find(window, threshold=32) in the file mine.py
    --record results/record.json                                         the function and the numbers of a run of lesson 8

The result is a Zarr group. In its array "counts" there is a number for each tile; -1 means "not counted yet". With
--labels, an array "labels" holds the labels of all objects; with --table, a table of them is written in the end. What
a file of "counts" holds, 2 x 2 tiles by default, is called a part: a worker writes its labels and its table, reads
them back, and its counts last. A run that ends early (killed, out of time, machine lost) keeps all finished parts, and
the next run does only the others. On a cluster, image and result must lie on a disk that all workers see, or in a
bucket, such as s3://bucket/result.zarr (see lesson 4 for the keys), where no other run may write meanwhile; and the
workers need the same Python environment. Lesson 7 tries it, and its section "Store results where they are made"
explains how parts are stored.

It ends with 0 when all is done, 1 when something must be put right first (the message says what), 2 for a wrong
command line, 3 when it was stopped or got no workers: then the same line goes on.
"""

import signal

if __name__ == "__mp_main__":  # a worker on this machine imports this file under this name
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the script, which then ends the workers

import argparse
import json
import os
import re
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from importlib import import_module
from inspect import signature
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pandas as pd
import psutil
import zarr
from dask.array.core import normalize_chunks, slices_from_chunks
from dask.delayed import delayed
from dask.distributed import Client, KilledWorker
from dask.utils import format_bytes, format_time

from course_helpers._arguments import per_axis
from course_helpers._engine.safe_writing import WRITE_ALL_CHUNKS, Verified, held, written_beside
from course_helpers.buckets import store_at
from course_helpers.clusters import NoWorkers, as_done, kubernetes_cluster, local_cluster, slurm_cluster
from course_helpers.image_files import open_image
from course_helpers.memory import measure
from course_helpers.objects import count_in_tiles, label_in_tiles, tables_in_tiles
from course_helpers.slide import nuclei_slide
from course_helpers.storage import CODECS, check_store
from course_helpers.tiling import overlap_needed

NOT_COUNTED = -1
PROPERTIES = ("label", "centroid", "area", "intensity_mean")  # the columns of the table, as in regionprops
OF_THE_RESULT = ("image", "number", "axes", "pixel_size", "time", "channel", "shape", "tile", "segment", "numbers")
OF_THE_RESULT += ("largest", "reach", "labels", "table")  # a run that goes on must have the same


def cluster_of(options):
    """Where the work is done: the only part that differs between a laptop and a cluster."""
    if options.cluster == "slurm":
        folder = "." if in_bucket(options) else os.path.dirname(os.path.abspath(options.output))
        return slurm_cluster(
            options.workers, options.memory, folder, options.walltime, queue=options.queue, account=options.account
        )
    if options.cluster == "kubernetes":
        return kubernetes_cluster(options.workers, options.memory, options.container)
    return local_cluster(options.workers, options.memory)


def open_tiles(options):
    """The image in tiles, not read, and the side lengths of a pixel in micrometres; None of the virtual slide."""
    if not options.image:
        if len(options.tile) != 2:
            raise ValueError(
                f"--tile is {options.tile}, but must be two numbers for the virtual slide. Or say --image."
            )
        return nuclei_slide(tuple(options.shape), chunks=tuple(options.tile)), None
    image = corrected(open_image(options.image, options.number), options)
    volume = image.tczyx()
    for name, count in zip(("time", "channel"), volume.shape):
        chosen = getattr(options, name)
        if chosen not in range(count) and (count > 1 or chosen is not None):
            raise ValueError(f"--{name} is {chosen}, but must be chosen from 0 to {count - 1} for {options.image}.")
    volume = volume[options.time or 0, options.channel or 0]
    if len(options.tile) == 2 and len(volume) > 1:
        raise ValueError(
            f"--tile is {options.tile}, but must be three numbers, because the image has {len(volume)} planes."
        )
    volume = volume if len(options.tile) == 3 else volume[0]
    spacing = sizes_of(image, options)[-volume.ndim :] if options.table or options.of_record else None
    return volume.rechunk(tuple(options.tile)), spacing


def corrected(image, options):
    """An image with what the command line says about it; a file that says what that of the record says is corrected alike."""
    if options.of_record:
        said, used = (options.of_record[part] for part in ("image", "settings"))
        image = replace(image, axes=used["axes"] if image.axes == said["axes"] else image.axes)
        alike = image.pixel_size == said["pixel_size"]
        image = replace(image, pixel_size=used["pixel_size"] if alike else image.pixel_size)
    if options.pixel_size:
        image = replace(image, pixel_size=dict(zip("XYZ", options.pixel_size[::-1])))
    return replace(image, axes=options.axes or image.axes)


def sizes_of(image, options):
    """The side lengths of a voxel; ValueError if they are not known, or not those for which the numbers were chosen."""
    try:
        spacing = image.spacing
    except ValueError:
        raise ValueError(
            f"{options.image} says {image.pixel_size} about pixel sizes. Give --pixel-size: micrometres along (Z,) Y and X."
        ) from None
    if options.of_record:
        there = [options.of_record["settings"]["pixel_size"].get(axis, 1) for axis in "ZYX"]
        if not np.allclose(spacing, there, rtol=1e-3):
            raise ValueError(
                f"a pixel of {options.image} is {spacing} micrometres long, that of the record {there}: its numbers mean "
                "other lengths here. If the file is wrong, give --pixel-size; else leave --record out, and choose others."
            )
    return spacing


def plan(options):
    """The tiles; of each the number of its objects, or their table, and its labels if they are wanted; and the spacing."""
    tiles, spacing = open_tiles(options)
    name = options.segment or f"course_helpers.nuclei:{'segment' if options.labels or options.table else 'seed'}_nuclei"
    module, _, function = name.rpartition(":")
    if file := file_of(options):
        sys.path.insert(0, str(file.resolve().parent))  # workers get the file itself
        module = file.stem
    segment = getattr(import_module(module), function)
    signature(segment).bind(None, **options.numbers)  # a wrong name is refused before work starts
    segment = partial(segment, **options.numbers)
    sizes = [options.reach, options.largest]
    reach, largest = (per_axis(far if len(far) > 1 else far[0], "a length", tiles.ndim, 0) for far in sizes)
    overlap = tuple(map(sum, zip(largest, reach)))  # the rule of lesson 5
    if options.table:
        found = tables_in_tiles(segment, tiles, overlap, PROPERTIES, reach, spacing or 1)
    else:
        found = count_in_tiles(segment, tiles, overlap, reach)
    return tiles, found, label_in_tiles(segment, tiles, overlap, reach) if options.labels else None, spacing


def file_of(options):
    """The Python file that holds the function which finds objects; None if a package does."""
    file = Path((options.segment or "").rpartition(":")[0])
    return file if file.suffix == ".py" else None


def begin(tiles, options):
    """Make a new result, in which nothing is counted yet, if there is none."""
    if not in_bucket(options):
        if not os.path.lexists(options.output):
            with written_beside(options.output, overwrite=False) as place:
                create(place, tiles, options)
        return
    try:
        zarr.open_group(store_at(options.output), mode="r")
    except FileNotFoundError:
        create(store_at(options.output), tiles, options)


def create(place, tiles, options):
    """Create the group of a result and its arrays."""
    zarr.create_group(place, attributes={"settings": settings_of(options)})
    layout = {"dtype": "int64", "compressors": CODECS}
    parts = tuple(min(options.part, count) for count in tiles.numblocks)
    zarr.create_array(place, name="counts", shape=tiles.numblocks, chunks=parts, fill_value=NOT_COUNTED, **layout)
    if options.labels:
        layout["dimension_names"] = list("zyx"[-tiles.ndim :])
        zarr.create_array(place, name="labels", shape=tiles.shape, chunks=tiles.chunksize, **layout)


def in_bucket(options):
    """Whether the result lies in a bucket of an object store, and not in a folder."""
    return store_at(options.output) is not options.output


def settings_of(options):
    """What a run that goes on must have in common with the one before."""
    return json.loads(json.dumps({name: getattr(options, name) for name in OF_THE_RESULT}))


def open_result(tiles, options):
    """The array of counts in a result that was begun with the same settings."""
    settings = settings_of(options)
    remedy = "Delete it, or use another output."
    try:
        begun = zarr.open_group(store_at(options.output), mode="r", zarr_format=3).attrs["settings"]
        counts = zarr.open_array(store_at(options.output), path="counts", mode="r+")
    except Exception as error:
        raise ValueError(f"{options.output} is no result of this script, or damaged: {error}. {remedy}") from error
    changed = [
        f"{name} {begun.get(name)!r}, not {value!r}" for name, value in settings.items() if begun.get(name) != value
    ]
    if changed:
        raise ValueError(
            f"{options.output} was begun with {'; '.join(changed)}. Use the same settings, or another output."
        )
    if (counts.shape, counts.dtype, counts.compressors) != (tiles.numblocks, "int64", CODECS):
        raise ValueError(
            f"{options.output} is damaged: counts are {counts.shape} {counts.dtype}, with "
            f"{counts.compressors or 'no checksums'}. {remedy}"
        )
    return counts


def unfinished_parts(counts, options):
    """The regions of those chunks of the counts that are not counted yet or damaged, and the number of all chunks."""
    report = check_store(f"{options.output}/counts")
    parts = [
        tuple(slice(number * step, min((number + 1) * step, size)) for number, step, size in zip(*layout))
        for layout in ((place, counts.chunks, counts.shape) for place in sorted(report.missing + report.damaged))
    ]
    return parts, report.files


def plans_to_store(tiles, found, labels, counts, parts, options):
    """A plan for each part, which computes and stores all of it."""
    edges = [np.cumsum((0, *sizes)) for sizes in tiles.chunks]
    if labels is not None:
        array = zarr.open_array(store_at(options.output), path="labels", mode="r+", config=WRITE_ALL_CHUNKS)
    for part in parts:
        region, written = tuple(slice(axis[tile.start], axis[tile.stop]) for axis, tile in zip(edges, part)), None
        if labels is not None:  # aligned: no two tasks write to the same file
            written = da.store(labels[region], Verified(array), regions=region, lock=False, compute=False)
        yield delayed(store_part)(found[part].rechunk(-1).to_delayed().item(), counts, part, written, options.output)


def store_part(found, counts, part, written, output):
    """Store what was found in the tiles of a part, the counts last: from then on the part is finished."""
    if found.dtype == object:
        table = pd.concat(found.ravel())
        layout = {"compressors": CODECS, "attributes": {"columns": list(table)}, "overwrite": True}
        array = zarr.create_array(table_of(part, output), shape=table.shape, dtype="float64", **layout)
        Verified(array)[:] = table.to_numpy(float)
        found = np.vectorize(len)(found)
    Verified(counts)[part] = found


def table_of(part, output):
    """Where the table of a part is stored."""
    return f"{output}/tables/{'.'.join(str(tiles.start) for tiles in part)}"


def count_parts(client, plans, total):
    """Let the workers do the plans; print a line for each part as soon as it is on disk."""
    for number, (part, seconds) in enumerate(as_done(client, client.compute(plans)), start=1):
        part.result()  # raises here what went wrong on a worker
        left = timedelta(seconds=round(seconds / number * (len(plans) - number)))
        print(f"part {total - len(plans) + number} of {total} is stored, about {left} left", flush=True)


def write_table(tiles, counts, spacing, output):
    """Write one table of all objects, sorted by label, with units."""
    parts = slices_from_chunks(normalize_chunks(counts.chunks, counts.shape))
    stored = [zarr.open_array(table_of(part, output), mode="r") for part in parts]
    table = pd.concat(pd.DataFrame(array[:], columns=array.attrs["columns"]) for array in stored)
    unit, axes = "px" if spacing is None else "um", "zyx"[-tiles.ndim :]
    names = {f"centroid-{number}": f"{axis}_{unit}" for number, axis in enumerate(axes)}
    names["area"] = f"volume_{unit}3" if len(axes) == 3 else f"area_{unit}2"
    table = table.astype({"label": np.int64}).sort_values("label").rename(columns=names)
    table.to_csv(f"{output}/objects.csv", index=False)


def try_out(options):
    """Say what would be done, and do one tile in the middle, in a process of its own."""
    tiles, found, labels, _ = plan(options)
    middle = tuple(count // 2 for count in tiles.numblocks)
    work = [part.blocks[middle] for part in (found, labels) if part is not None]
    one = measure(partial(dask.compute, *work, scheduler="synchronous"))
    if one.died:
        raise RuntimeError(f"the tile {middle} could not be done: {one.died}.")
    python = psutil.Process().memory_info().rss
    parts = np.prod([-(-count // options.part) for count in tiles.numblocks])
    files = parts * (2 if options.table else 1) + (tiles.npartitions if options.labels else 0)
    print(f"image: {tiles.shape} {tiles.dtype}, {format_bytes(tiles.nbytes)}")
    print(f"tiles: {tiles.npartitions} of {tiles.chunksize} pixels, in {parts} parts")
    print(f"one tile, number {middle}: {format_time(one.seconds)}")
    print(
        f"work on all tiles, {options.workers} workers: {format_time(one.seconds * tiles.npartitions / options.workers)}"
    )
    print(f"memory of a worker: {format_bytes(python)} for Python, {format_bytes(one.peak)} for a tile")
    needed = (python + one.peak) / 0.6  # above this share of its limit, a worker begins to write to disk
    print(f"so --memory of {format_bytes(needed)} or more; it is {options.memory}")
    print(f"files: {files} in {options.output}, metadata not counted")


def main(arguments=None):
    options = parsed(arguments)
    try:
        run(options)
    except (OSError, TypeError, ValueError, AttributeError, ImportError, IndexError, RuntimeError) as error:
        sys.exit(f"{error}")


def run(options):
    """What the command line asks for."""
    if options.job_script:
        options.workers, options.cluster = 0, "slurm"  # nothing is submitted
        with cluster_of(options) as cluster:
            return print(cluster.job_script())
    if options.dry_run:
        return try_out(options)
    if options.table and in_bucket(options):
        raise ValueError(f"output is {options.output}, but must be a folder with --table: a table is no Zarr array.")
    lazy = plan(options)
    begin(lazy[0], options)
    with nullcontext() if in_bucket(options) else held(Path(os.path.realpath(options.output))):
        count(*lazy, options)


def count(tiles, found, labels, spacing, options):
    """Count what is not counted yet, and print the sum."""
    counts = open_result(tiles, options)
    parts, total = unfinished_parts(counts, options)
    print(f"{total - len(parts)} of {total} parts are there already", flush=True)
    if parts:
        print(f"starting {options.workers} workers; Ctrl+C works when they are there", flush=True)
        start = time.perf_counter()
        try:
            with cluster_of(options) as cluster, Client(cluster) as client:
                print(f"dashboard: {client.dashboard_link}", flush=True)
                if file := file_of(options):
                    client.upload_file(str(file))
                count_parts(client, list(plans_to_store(tiles, found, labels, counts, parts, options)), total)
        except (KeyboardInterrupt, NoWorkers, KilledWorker, OSError) as error:
            end_early(error, counts, options)
        print(f"counted in {time.perf_counter() - start:.0f} s, start of the cluster included")
    if options.table:
        write_table(tiles, counts, spacing, options.output)
    print(f"{counts[:].sum():,} objects in {counts.size:,} tiles")


def end_early(error, counts, options):
    """Exit with a sentence about what happened, and what is stored: code 3 if the same line goes on, 1 if it would not."""
    code = 3 if isinstance(error, (KeyboardInterrupt, NoWorkers)) else 1
    why, remedy = f"{error}", "Run the same line again to count the others."
    if isinstance(error, KeyboardInterrupt):
        why = "Stopped."
    elif isinstance(error, KilledWorker):
        lost = error.allowed_failures + 1
        why = (
            f"{lost} workers were lost at the same part: for want of memory, or ended from outside before it was done."
        )
        remedy = f"Run this again, with more than --memory {options.memory} in the first case, to count the others."
    elif isinstance(error, OSError):
        why = f"A part could not be read or stored: {error}."
        remedy = "When this is put right, run the same line again to count the others."
    left, total = unfinished_parts(counts, options)
    print(f"\n{why} {total - len(left)} of {total} parts are stored. {remedy}", file=sys.stderr)
    sys.exit(code)


def parsed(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s output [options]", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", help="folder of the result, or an address in a bucket: made, or resumed")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and try one tile")
    parser.add_argument(
        "--labels", action="store_true", help="store labels, too: of each object 1 plus the place of its first pixel"
    )
    parser.add_argument("--table", action="store_true", help="measure all objects, too: objects.csv in the result")

    add_image(parser.add_argument_group("image"))
    add_objects(parser.add_argument_group("objects; lengths in pixels, one or a length for each axis"))
    add_cluster(parser.add_argument_group("cluster"))
    return completed(parser.parse_args(arguments), parser)


def add_image(group):
    """Options that say which image."""
    group.add_argument("--image", help="file or Zarr store, as in lesson 8; without it, the virtual slide is counted")
    group.add_argument("--number", type=int, help="which image of a file that holds several, from 0")
    group.add_argument("--time", type=int, help="which time point, from 0")
    group.add_argument("--channel", type=int, help="which channel, from 0")
    group.add_argument("--axes", help="where the file says something wrong: a letter per axis, such as CYX")
    group.add_argument(
        "--pixel-size",
        type=float,
        nargs="+",
        help="where the file says something wrong: micrometres along (Z,) Y and X",
    )
    group.add_argument("--shape", type=positive, nargs=2, default=[4000, 4000], help="of the virtual slide, in pixels")
    group.add_argument("--tile", type=positive, nargs="+", help="sides of a tile: (planes,) rows, columns; 1000 1000")
    group.add_argument("--part", type=positive, default=2, help="tiles along each side of a part; 2")


def add_objects(group):
    """Options that say what an object is."""
    group.add_argument("--segment", help="package.module:function or file.py:function; nuclei as in lesson 5")
    group.add_argument("--with", dest="numbers", nargs="+", default=[], metavar="NAME=NUMBER", help="its arguments")
    group.add_argument("--largest", type=positive, nargs="+", help="size of the largest object; 30")
    group.add_argument(
        "--reach",
        type=int,
        nargs="+",
        help="how far the function looks beyond a pixel; for nuclei by the rule of lesson 5",
    )
    group.add_argument("--record", help="take all of this from the record.json of lesson 8")


def add_cluster(group):
    """Options that say where the work is done."""
    group.add_argument(
        "--cluster", choices=("local", "slurm", "kubernetes"), default="local", help="where the workers run"
    )
    group.add_argument("--workers", type=positive, default=2, help="how many, with one thread each; 2")
    group.add_argument("--memory", default="1GiB", help="limit of each worker; 1GiB")
    group.add_argument("--queue", help="SLURM: name of the queue (partition)")
    group.add_argument("--account", help="SLURM: who pays")
    group.add_argument(
        "--walltime", type=walltime, default="01:00:00", help="SLURM: longest time a worker may run; 01:00:00"
    )
    group.add_argument("--container", help="Kubernetes: image that holds the Python environment")
    group.add_argument("--job-script", action="store_true", help="print what would be submitted to SLURM, and end")


def completed(options, parser):
    """The options, with what the record says, and with the nuclei of lesson 5 where nothing is said."""
    said, options.of_record = {}, None
    if options.record:
        try:
            options.of_record = json.loads(Path(options.record).read_text(encoding="utf-8"))
            said = dict(options.of_record["settings"])
            said |= {"channel": said["nuclei"], "largest": np.subtract(said["overlap"], said["reach"]).tolist()}
            if said["segment"].startswith("__main__") and not options.segment:
                parser.error("the function of the record lies in its notebook: copy it into a file, see --segment")
        except (OSError, ValueError, KeyError) as error:
            parser.error(f"{options.record} is no record of lesson 8: {error!r}")
    numbers = {} if options.segment else said.get("numbers", {"threshold": 32, "sigma": 2})
    for text in options.numbers:
        name, _, number = text.partition("=")
        try:
            numbers[name] = json.loads(number)
        except ValueError:
            parser.error(f"--with {text}: must be NAME=NUMBER, such as threshold=32 or sigma=[1,2,2]")
    for name, default in {
        "segment": None,
        "channel": None,
        "tile": [1000, 1000],
        "largest": [30],
        "reach": None,
    }.items():
        if getattr(options, name) is None:
            setattr(options, name, said.get(name, default))
    if options.reach is None and options.segment:
        parser.error("--segment needs --reach: how many pixels the function looks beyond a pixel, see lesson 5")
    options.numbers = numbers
    options.reach = options.reach or [overlap_needed(("gaussian", numbers["sigma"])) + options.largest[0] // 2]
    return options


def walltime(text):
    """A time as SLURM takes it on the command line."""
    if not re.fullmatch(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}", text):
        raise argparse.ArgumentTypeError(f"{text} is no time like 90 (minutes), 01:30:00 or 1-12:00:00 (days first)")
    return text


def positive(text):
    """A whole number from 1 on the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return number


if __name__ == "__main__":
    main()
