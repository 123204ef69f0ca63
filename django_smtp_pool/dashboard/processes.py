"""Keep the page on one process of a site.

A site usually runs several processes, each has separate pools, and the web server picks a process for each request. The
page's address names its process. If another process gets the request, it redirects the browser to the same address, so
that the web server picks again.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from .recorder import recorder

MOST_TRIES = 16  # browsers give up after 20 redirects


def elsewhere(request: HttpRequest) -> HttpResponse | None:
    """Return a redirect if the request is for another process, or None, also after `MOST_TRIES` redirects."""
    tries = request.GET.get("tries", "0")
    tried = int(tries) if tries.isdecimal() and len(tries) < 3 else MOST_TRIES
    if request.GET.get("process", recorder.process) == recorder.process or tried >= MOST_TRIES:
        return None
    query = request.GET.copy()
    query["tries"] = str(tried + 1)
    return HttpResponseRedirect(f"{request.path}?{query.urlencode()}", preserve_request=True)
