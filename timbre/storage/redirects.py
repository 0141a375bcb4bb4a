"""A store stays where it is: what it says to be at another host is not fetched from there.

A redirect can lead to a machine that only this one can reach, or hand what is asked for, with its
password or token, to somebody else. On the same host it is followed.
"""

import inspect
from typing import Any
from urllib.parse import urljoin, urlsplit

from timbre.plain_text import redact
from timbre.storage.errors import RedirectError

REDIRECTS = (301, 302, 303, 307, 308)
AWS = (".amazonaws.com", ".amazonaws.com.cn")
PORTS = {"http": 80, "https": 443}


def staying_http() -> dict[str, Any]:
    """Return what fsspec's HTTP client is to be made with."""
    import aiohttp

    traces = aiohttp.TraceConfig()
    traces.on_request_redirect.append(_on_redirect)
    return {"trace_configs": [traces]}


def staying_s3() -> dict[str, Any]:
    """Return what botocore is to be configured with; it resolves a bucket's region by itself.

    Versions of aiobotocore that cannot be told which HTTP session to use follow redirects.
    """
    from aiobotocore.config import AioConfig
    from aiobotocore.httpsession import AIOHTTPSession

    if "http_session_cls" not in inspect.signature(AioConfig.__init__).parameters:
        return {}

    class SameHostSession(AIOHTTPSession):  # type: ignore[misc]
        async def _get_session(self, proxy_url: Any) -> Any:
            return _WithoutRedirects(await super()._get_session(proxy_url))

    return {"http_session_cls": SameHostSession}


class _WithoutRedirects:
    """An HTTP session that leaves redirects to botocore, which knows the regions of AWS."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, method: str, **options: Any) -> Any:
        """Make one request."""
        response = await self._session.request(method, **{"allow_redirects": False, **options})
        if response.status in REDIRECTS and not _is_within_aws(response):
            _refuse_other_host(str(response.url), response.headers)
        return response


async def _on_redirect(_: Any, __: Any, request: Any) -> None:
    _refuse_other_host(str(request.url), request.response.headers)


def _is_within_aws(response: Any) -> bool:
    hosts = (response.url.host, urlsplit(response.headers.get("Location", "")).hostname)
    return all(host and host.endswith(AWS) for host in hosts)


def _refuse_other_host(here: str, headers: Any) -> None:
    there = urljoin(here, headers.get("Location") or headers.get("URI") or "")
    if _host(here) != _host(there) and not _is_same_but_encrypted(here, there):
        raise RedirectError(
            f"the store redirects to another host, {redact(there)}, which is not followed; "
            "name that URL if it is to be trusted"
        )


def _host(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or PORTS.get(parts.scheme)


def _is_same_but_encrypted(here: str, there: str) -> bool:
    old, new = urlsplit(here), urlsplit(there)
    default = old.port in (None, 80) and new.port in (None, 443)
    return default and (old.scheme, new.scheme, old.hostname) == ("http", "https", new.hostname)
