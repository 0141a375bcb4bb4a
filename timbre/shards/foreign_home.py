"""Where the manifest and the indexes of another program's tars are kept.

Beside the tars, where that may be written to. Else in this user's cache folder, under a name that is
the hash of the tars' folder.
"""

import os
from collections.abc import Sequence

from timbre import storage
from timbre.environment import cache_folder
from timbre.errors import ShardError

# Servers of pages take no files.
READ_ONLY = ("http://", "https://")


def home_of(folder: str, tars: Sequence[str]) -> str:
    """Return the folder for the indexes of these tars, whose paths are relative to ``folder``.

    Raises:
        ShardError: there is no cache folder either.
        OSError: the store of the tars cannot be asked.
    """
    if _is_writable(folder, tars):
        return folder
    place = str(storage.local_path(folder).resolve()) if storage.is_local(folder) else folder
    try:
        home = cache_folder() / "folders" / storage.sha256(os.fsencode(place))[:32]
        home.mkdir(0o700, parents=True, exist_ok=True)
    except (RuntimeError, OSError) as error:
        raise ShardError(
            f"{folder}: the indexes of its tars can be written neither there nor into this user's "
            f"cache folder ({error}); set XDG_CACHE_HOME to a folder of your own"
        ) from None
    return str(home)


def _is_writable(folder: str, tars: Sequence[str]) -> bool:
    if folder.startswith(READ_ONLY):
        return False
    places = {storage.join(folder, tar).rpartition("/")[0] for tar in tars} | {folder}
    return all(map(storage.is_writable, places))
