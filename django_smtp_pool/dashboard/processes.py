"""Staying with one process of a site.

A site usually runs several processes, each has pools of its own, and the web server picks one for each request. An
address of the page names its process. Another process that gets the request sends the browser back to the same
address, and the next pick may be the right one.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from .recorder import recorder

MOST_TRIES = 16  # browsers give up after 20 redirects


def elsewhere(request: HttpRequest) -> HttpResponse | None:
    """Return a redirect if the request is for another process; None if it has been tried often enough."""
    tries = request.GET.get("tries", "0")
    tried = int(tries) if tries.isdecimal() and len(tries) < 3 else MOST_TRIES
    if request.GET.get("process", recorder.process) == recorder.process or tried >= MOST_TRIES:
        return None
    query = request.GET.copy()
    query["tries"] = str(tried + 1)
    return HttpResponseRedirect(f"{request.path}?{query.urlencode()}", preserve_request=True)
