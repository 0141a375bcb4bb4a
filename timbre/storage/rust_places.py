"""Where a bucket is, and with which credentials, as fsspec's file systems found out, for obstore."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

# Credentials are asked for anew so often; fsspec's client renews those that expire.
CREDENTIAL_SECONDS = 300


class Place(NamedTuple):
    """A bucket at a URL, as an obstore class of this name opens it with these options."""

    class_name: str
    bucket: str
    url: str
    options: Mapping[str, Any]
    connect_seconds: float = 5.0
    # An answer that stalls for so long is given up.
    read_seconds: float = 15.0
    # A file of certificates that are trusted beside the system's.
    authorities: str | None = None


async def find_in_s3(file_system: Any, bucket: str) -> Place | None:
    """Return where s3fs has a bucket; None if it is asked in ways that obstore does not know."""
    client = await file_system.set_session()
    if file_system.req_kw or file_system.s3_additional_kwargs or file_system.version_aware:
        return None
    meta, credentials = client.meta, client._get_credentials()
    options: dict[str, Any] = {"endpoint": meta.endpoint_url, "region": meta.region_name}
    if file_system.anon:
        options["skip_signature"] = True
    elif credentials is None:
        return None
    else:
        options["credential_provider"] = _s3_credentials(credentials)
    return Place(
        "S3Store",
        bucket,
        meta.endpoint_url,
        options,
        file_system.connect_timeout,
        file_system.read_timeout,
        file_system.session.get_config_variable("ca_bundle"),
    )


def _s3_credentials(credentials: Any) -> Callable[[], Awaitable[Mapping[str, Any]]]:
    async def provide() -> Mapping[str, Any]:
        frozen = await credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(timezone.utc) + timedelta(seconds=CREDENTIAL_SECONDS),
        }

    return provide


# By the class of the file system.
PLACES: Mapping[str, Callable[[Any, str], Awaitable[Place | None]]] = {
    "S3FileSystem": find_in_s3,
}
