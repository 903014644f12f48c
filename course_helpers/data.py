"""Where the course keeps what should outlast a session, such as the record of the exercises."""

import os
from pathlib import Path


class DataError(RuntimeError):
    """The data folder cannot be used; the message says why and what to do."""


def data_folder():
    """Return the folder where data lies, as an absolute path; it is created when missing.

    It is the folder named by the environment variable COURSE_DATA, else ``data`` at the top of the project.

    Raises
    ------
    DataError
        When COURSE_DATA is no absolute path, or the folder is a file or cannot be created.
    """
    chosen = os.environ.get("COURSE_DATA")
    folder = Path(os.path.expanduser(chosen)) if chosen else Path(__file__).resolve().parents[1] / "data"
    if not folder.is_absolute():  # it would be another folder for every notebook
        raise DataError(f"COURSE_DATA is {chosen!r}, but must be an absolute path, or one that begins with ~.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise DataError(
            f"{folder} cannot be the data folder: {reason}. Set COURSE_DATA to a folder you may write to."
        ) from None
    return folder
