"""The page of a test: it holds its sounds and loads nothing."""

import base64
import json

from timbre import pages
from timbre.listen.plan import Plan

PACKAGE = "timbre.listen"


def to_html(plan: Plan, seconds: float) -> str:
    """Return the page of a test whose parts last up to ``seconds``."""
    script = pages.own_text(PACKAGE, "test.js")
    values = {
        "script": script,
        "script_hash": pages.script_hash(script),
        "style": pages.own_text("timbre", "pages.css"),
        "method": plan.tree["method"],
        "trials": len(plan.tree["trials"]),
        "seconds": f"{seconds:g}",
        # Names of systems are not to be read by chance.
        "plan": base64.b64encode(json.dumps(plan.tree).encode()).decode(),
        "sounds": [base64.b64encode(sound).decode() for sound in plan.sounds],
    }
    return pages.render(PACKAGE, "test.html.j2", values)
