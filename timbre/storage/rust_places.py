"""Where a bucket is, and with which credentials, as fsspec's file systems found out, for obstore."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

# Credentials are asked for anew so often; fsspec's client renews those that expire.
CREDENTIAL_SECONDS = 300
AZURE_SCOPE = "https://storage.azure.com/.default"


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


async def find_in_google(file_system: Any, bucket: str) -> Place | None:
    """Return where gcsfs has a bucket; None if another than the bucket's owner pays."""
    if file_system.requester_pays:
        return None
    url, credentials = file_system._location, file_system.credentials
    options: dict[str, Any] = {"base_url": url}

    async def provide() -> Mapping[str, Any]:
        credentials.maybe_refresh()
        return {"token": credentials.credentials.token, "expires_at": _soon()}

    if credentials.credentials is None:
        options["skip_signature"] = True
    else:
        options["credential_provider"] = provide
    return Place("GCSStore", bucket, url, options)


async def find_in_azure(file_system: Any, container: str) -> Place | None:
    """Return where adlfs has a container."""
    client = file_system.service_client
    url, _, query = client.url.partition("?")
    options: dict[str, Any] = {"account_name": client.account_name, "endpoint": url.rstrip("/")}

    async def provide() -> Mapping[str, Any]:
        token = await file_system.credential.get_token(AZURE_SCOPE)
        return {"token": token.token, "expires_at": _soon()}

    if file_system.credential is not None:
        options["credential_provider"] = provide
    elif key := getattr(client.credential, "account_key", None):
        options["account_key"] = key
    elif query:
        options["sas_key"] = query
    else:
        options["skip_signature"] = True
    return Place("AzureStore", container, url, options)


def _s3_credentials(credentials: Any) -> Callable[[], Awaitable[Mapping[str, Any]]]:
    async def provide() -> Mapping[str, Any]:
        frozen = await credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": _soon(),
        }

    return provide


def _soon() -> datetime:
    return datetime.now(timezone.utc) + timedelta(seconds=CREDENTIAL_SECONDS)


# By the class of the file system.
PLACES: dict[str, Callable[[Any, str], Awaitable[Place | None]]] = {
    "S3FileSystem": find_in_s3,
    "GCSFileSystem": find_in_google,
    "ExtendedGcsFileSystem": find_in_google,
    "AzureBlobFileSystem": find_in_azure,
}
