"""Fixtures of the cache's tests."""

from tests.storage import cached_files

source, folder, start = cached_files.source, cached_files.folder, cached_files.start
