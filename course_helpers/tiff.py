"""Convert TIFF files that are larger than memory to Zarr."""

import tifffile

from course_helpers._engine.safe_writing import StorageError, check_target, fitting, move_into_place
from course_helpers._engine.tiff_pieces import copy_piece, fingerprint, is_complete, pieces_of, resumable, tiff_reader
from course_helpers.storage import open_stored


def convert_tiff(tiff_path, path, chunks=(512, 512), overwrite=False, max_memory=2**28, progress=iter):
    """Convert the first image of a TIFF file to a Zarr 3 array, piece by piece; run it again to resume.

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
        Chunk shape along the last axes. Along axes in front, a chunk has the size 1.
    overwrite : bool
        Whether an existing Zarr store at `path` may be replaced.
    max_memory : int
        Most bytes that one piece may take. A piece consists of whole chunks and whole tiles or strips of the TIFF.
    progress : callable
        Gets the list of pieces and returns an iterable: ``tqdm`` shows a progress bar.

    Returns
    -------
    zarr.Array, opened for reading

    Raises
    ------
    FileNotFoundError, FileExistsError, TypeError, ValueError
        If an argument cannot be used, or a piece would take more than `max_memory`.
    StorageError
        If the TIFF file cannot be decoded or changes while it is converted, or a piece reads back differently.
    """
    path = check_target(path, overwrite)
    with tifffile.TiffFile(tiff_path) as file:
        read, shape, dtype, tiff_chunks = tiff_reader(file.series[0])
        chunks = fitting((1,) * (len(shape) - len(chunks)) + tuple(chunks), shape)
        pieces = pieces_of(shape, dtype, chunks, tiff_chunks, max_memory)
        partial, source = path.with_name(f"{path.name}.partial"), fingerprint(tiff_path)
        target = resumable(partial, source, shape=shape, dtype=dtype, chunks=chunks)
        for region in progress(pieces):
            if not is_complete(target, partial, region):
                copy_piece(read, target, region)
        if fingerprint(tiff_path) != source:
            raise StorageError(f"{tiff_path} has changed while it was converted. Run the conversion again.")
    move_into_place(partial, path)
    return open_stored(path)
