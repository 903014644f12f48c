"""Convert TIFF files that are larger than memory to Zarr."""

import zarr

from course_helpers._engine.safe_writing import CODECS, WRITE_ALL_CHUNKS, StorageError, written_beside, zarr_dtype
from course_helpers._engine.tiff_pieces import (
    chosen,
    chunk_shape,
    copy_piece,
    decoding,
    fingerprint,
    images_of,
    is_complete,
    pieces_of,
    tiff_reader,
)
from course_helpers.storage import open_stored


def convert_tiff(tiff_path, path, chunks=(512, 512), overwrite=False, max_memory=2**28, progress=iter, series=None):
    """Convert an image of a TIFF file to a Zarr 3 array, piece by piece; run it again to resume.

    Under way, the store is called `path` + ".partial". When the conversion is interrupted, the next call with the same
    arguments keeps each piece that reads back without damage and goes on with the others. If the TIFF file or the chunks
    have changed in the meantime, it starts anew.

    Parameters
    ----------
    tiff_path : str or Path
        Tiled, in strips, or of many pages; of a pyramid, the finest level is converted.
    path : str or Path
        The folder to write.
    chunks : tuple of int
        Chunk shape along all axes, or along the last ones: then a chunk has the size 1 along axes in front, and holds all
        colours (or other samples of a pixel).
    overwrite : bool
        Whether an existing Zarr store at `path` may be replaced.
    max_memory : int
        Most bytes that one piece may take. A piece consists of whole chunks and whole tiles or strips of the TIFF.
    progress : callable
        Gets the list of pieces and returns an iterable: ``tqdm`` shows a progress bar.
    series : int, optional
        Which image of a file that holds several, from 0.

    Returns
    -------
    zarr.Array, opened for reading

    Raises
    ------
    FileNotFoundError, FileExistsError, TypeError, ValueError
        If an argument cannot be used, `series` is not chosen, or a piece would take more than `max_memory`.
    StorageError
        If the TIFF file cannot be decoded, lacks planes or changes while it is converted, or a piece reads back differently.
    """
    with images_of(tiff_path) as images:
        image = chosen(images, series)
        with decoding():
            (read, shape, dtype, tiff_chunks), files = tiff_reader(image), fingerprint(image)
        chunks = chunk_shape(chunks, image.axes, shape)
        pieces = pieces_of(shape, dtype, chunks, tiff_chunks, max_memory)
        with written_beside(path, overwrite, source=[files, series, shape, dtype.str, chunks]) as partial:
            (partial / "zarr.json").unlink(missing_ok=True)  # of an earlier run, and perhaps damaged: made anew
            layout = {"shape": shape, "dtype": zarr_dtype(dtype), "chunks": chunks, "compressors": CODECS}
            target = zarr.create_array(partial, config=WRITE_ALL_CHUNKS, **layout)
            for region in progress(pieces):
                if not is_complete(target, partial, region):
                    copy_piece(read, target, region)
            if fingerprint(image) != files:
                raise StorageError(f"{tiff_path} has changed while it was converted. Run the conversion again.")
    return open_stored(path)
