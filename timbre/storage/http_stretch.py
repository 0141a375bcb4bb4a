"""Stretches of files over HTTP, also of servers that send only whole files."""

from typing import Any

PARTIAL, BEHIND_END = 206, 416
PIECE_BYTES = 2**18


async def read_http_stretch(file_system: Any, url: str, start: int, end: int) -> bytes:
    """Return bytes of a file; fewer if it ends. Runs in the event loop of fsspec's file system.

    A server that does not know ranges sends the file from its beginning, and is left when the stretch
    has come.

    Raises:
        Exception: what the file system raises of an answer with another status.
    """
    session = await file_system.set_session()
    options = file_system.kwargs.copy()
    headers = {**options.pop("headers", {}), "Range": f"bytes={start}-{end - 1}"}
    async with session.get(file_system.encode_url(url), headers=headers, **options) as response:
        if response.status == BEHIND_END:
            return b""
        file_system._raise_not_found_for_status(response, url)
        if response.status == PARTIAL:
            data: bytes = await response.read()
            return data
        return await _middle(response.content, start, end)


async def _middle(content: Any, start: int, end: int) -> bytes:
    parts, place = bytearray(), 0
    async for piece in content.iter_chunked(PIECE_BYTES):
        parts += piece[max(start - place, 0) : max(end - place, 0)]
        place += len(piece)
        if place >= end:
            break
    return bytes(parts)
