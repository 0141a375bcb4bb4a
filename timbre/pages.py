"""Pages that timbre writes: jinja2 templates with autoescape, and files inside the page."""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(package: str, template: str, values: Mapping[str, object]) -> str:
    """Return a template of a package, filled; every value is escaped.

    Args:
        package: the package beside whose files the template lies, ``shard_tools.make``.
        template: the file's name, ``left_out.html.j2``.
        values: what the template names; a name that is missing is an error.
    """
    loader = PackageLoader(package, "")
    pages = Environment(autoescape=True, undefined=StrictUndefined, loader=loader)
    return pages.get_template(template).render(values)


def own_text(package: str, name: str) -> Markup:
    """Return a script or style of ours as it stands in a page: not escaped."""
    return Markup(files(package).joinpath(name).read_text(encoding="utf-8"))


def data_uri(data: bytes, kind: str) -> str:
    """Return a file of a MIME ``kind`` as a URI, so that a page needs no file beside it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def script_hash(script: str) -> str:
    """Return the name under which a Content-Security-Policy lets one script run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"sha256-{digest}"
