"""Files and stores: reading, listing, publishing whole, and keeping copies."""

from timbre.plain_text import escape, redact
from timbre.storage.cache import FileCache
from timbre.storage.errors import EndOfFileError, StoreError
from timbre.storage.files import (
    exists,
    find_below,
    find_files,
    is_folder,
    is_local,
    is_writable,
    join,
    local_path,
    open_ranged,
    publish,
    read,
    read_range,
    remove,
    remove_stale_temporaries,
    sha256,
    size,
    split_query,
)
from timbre.storage.listing import FileStat, PassedOver, is_companion
from timbre.storage.new_file import STANDARD, name_in_errors, new_file
from timbre.storage.remote import RemoteReader, Span

__all__ = [
    "STANDARD",
    "EndOfFileError",
    "FileCache",
    "FileStat",
    "PassedOver",
    "RemoteReader",
    "Span",
    "StoreError",
    "escape",
    "exists",
    "find_below",
    "find_files",
    "is_companion",
    "is_folder",
    "is_local",
    "is_writable",
    "join",
    "local_path",
    "name_in_errors",
    "new_file",
    "open_ranged",
    "publish",
    "read",
    "read_range",
    "redact",
    "remove",
    "remove_stale_temporaries",
    "sha256",
    "size",
    "split_query",
]
