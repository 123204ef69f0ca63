"""Somebody at the browser."""

import re

from tests.dashboard.site import PAGE, PASSWORD

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}


class Visitor:
    """A window of its own, in which a user is logged in.

    Arguments:
        scheme: "light" or "dark".
        script: whether JavaScript runs.
    """

    def __init__(self, chromium, address, name, *, viewport=DESKTOP, scheme="light", script=True):
        self.address = address
        self.requests = []
        self.complaints = []  # of the browser: errors of scripts, and what the policy refused
        self._context = chromium.new_context(viewport=viewport, color_scheme=scheme, java_script_enabled=script)
        self.page = self._context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)
        self.page.goto(f"{address}/admin/login/?next={PAGE}")
        self.page.fill("#id_username", name)
        self.page.fill("#id_password", PASSWORD)
        self.page.press("#id_password", "Enter")
        self.page.wait_for_selector("#smtp-pools")

    def _console(self, message):
        if message.type == "error":
            self.complaints.append(message.text)

    def close(self):
        """Close the window."""
        self._context.close()

    def reload(self):
        """Load the page anew."""
        self.page.goto(f"{self.address}{PAGE}")
        return self.page

    def refresh(self):
        """Wait until the page has refreshed itself."""
        with self.page.expect_response(lambda response: "part=1" in response.url and response.status == 200):
            pass
        return self.page

    @property
    def overflow(self):
        """By how many pixels the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def colours(self, selector, *names):
        """Return computed colours of the first element, as the numbers of red, green and blue."""
        script = "([s, names]) => names.map(n => getComputedStyle(document.querySelector(s)).getPropertyValue(n))"
        found = self.page.evaluate(script, [selector, list(names)])
        return [tuple(map(float, re.findall(r"[\d.]+", colour)[:3])) for colour in found]


def contrast(one, other):
    """Return the ratio of contrast between two colours (WCAG 2.2)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    """Return the relative luminance of a colour."""
    parts = [part / 255 for part in colour]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
