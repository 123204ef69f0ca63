"""The live page as people meet it: in both colour schemes, on a phone, by keyboard, without JavaScript."""

import pytest

from django_smtp_pool.dashboard.recorder import recorder
from tests.browser.scenes import HOSTILE, every_state, fill, pool_of
from tests.browser.visitor import DESKTOP, PHONE, contrast
from tests.dashboard.site import PAGE
from tests.mailing import message

STATES = ("busy", "idle", "connecting", "leaving")
READABLE = 4.5  # WCAG 2.2, level AA: text
VISIBLE = 3.0  # edges of what is not text
SCHEMES = ("light", "dark")


def boxes(page):
    return page.locator(".smtp-pool-boxes li")


# Colours


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_state_can_be_read_and_told_apart_without_colours(visit, server, scheme):
    visitor = visit(scheme=scheme)
    with every_state(server):
        page = visitor.reload()
        shapes = {}
        for state in STATES:
            box = f".smtp-pool-boxes .{state}"
            assert page.locator(f"{box} b").first.inner_text() == state
            text, ground, edge = visitor.colours(box, "color", "background-color", "border-top-color")
            (around,) = visitor.colours("body", "background-color")
            assert contrast(text, ground) >= READABLE, state
            assert contrast(edge, around) >= VISIBLE, state
            shapes[state] = page.evaluate(
                """box => {
                    const mark = getComputedStyle(document.querySelector(box + " b"), "::before");
                    const style = getComputedStyle(document.querySelector(box)).borderTopStyle;
                    return [style, mark.borderRadius, mark.backgroundColor === "rgba(0, 0, 0, 0)"].join();
                }""",
                box,
            )
        assert len(set(shapes.values())) == len(STATES), "each has a shape of its own"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_words_and_charts_can_be_read(visit, server, scheme):
    visitor = visit(scheme=scheme)
    with every_state(server):
        visitor.reload()
        (ground,) = visitor.colours("body", "background-color")
        for words in (".smtp-pool-top p", ".smtp-pool-counts dt", ".smtp-pool-axis", ".smtp-pool-failures code"):
            assert contrast(*visitor.colours(words, "color"), ground) >= READABLE, words
        (button,) = visitor.colours(".smtp-pool .button", "background-color")
        assert contrast(*visitor.colours(".smtp-pool .button", "color"), button) >= READABLE
        (chart,) = visitor.colours(".smtp-pool svg", "background-color")
        for inner, outer in (("failed", "accepted"), ("average", "longest")):
            front, behind = (visitor.colours(f"path.{name}", "fill")[0] for name in (inner, outer))
            assert contrast(front, chart) >= VISIBLE, inner
            assert contrast(front, behind) >= 2, "two areas differ in lightness too"


def test_the_admins_own_switch_counts_more_than_the_system(visit, server):
    visitor = visit(scheme="light")
    visitor.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    fill(server, pool_of(server, "a"), 1)
    visitor.refresh()
    (text,) = visitor.colours(".smtp-pool-boxes .idle", "color")
    assert text == (238, 238, 238)


# Sizes


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_is_wider_than_the_window(visit, server, viewport):
    visitor = visit(viewport=viewport)
    with every_state(server):
        page = visitor.reload()
        assert visitor.overflow == 0
        cut_off = """() => [...document.querySelectorAll(".smtp-pool-boxes li, .smtp-pool code, .smtp-pool h2")]
            .filter(each => each.scrollWidth > each.clientWidth).map(each => each.textContent)"""
        page.evaluate("document.querySelectorAll('.smtp-pool').forEach(e => { e.style.contentVisibility = 'visible' })")
        assert page.evaluate(cut_off) == []


def test_twenty_pools_of_fifty_connections(visit, server):
    for number in range(20):
        fill(server, pool_of(server, f"host{number}", max_connections=50, batch_connections=50), 50)
    visitor = visit()
    visitor.requests.clear()
    page = visitor.reload()
    assert boxes(page).count() == 1000
    assert [url for url in visitor.requests if not url.startswith(visitor.address)] == []
    assert len(visitor.requests) <= 16, "the admin's own files, and one script and one sheet of ours"
    nodes = page.evaluate("document.querySelectorAll('#smtp-pools *').length")
    assert nodes <= 1000 * 5 + 20 * 80
    laid_out = page.evaluate(
        """[...document.querySelectorAll('.smtp-pool-body')]
        .filter(each => each.checkVisibility({contentVisibilityAuto: true})).length"""
    )
    assert laid_out < 20, "what is off the screen is not laid out"
    visitor.requests.clear()
    visitor.refresh()
    assert boxes(page).count() == 1000
    assert [url for url in visitor.requests if "part=1" not in url] == []


# Refreshing


def test_it_refreshes_itself(visit, server):
    visitor = visit("staff")
    assert "This process has no pool yet." in visitor.page.inner_text("#smtp-pools")
    fill(server, pool_of(server, "a"), 2)
    boxes(visitor.page).nth(1).wait_for()
    fill(server, pool_of(server, "a"), 3)
    boxes(visitor.page).nth(2).wait_for()
    assert not visitor.page.locator("#smtp-pools-reload").is_visible()


@pytest.fixture
def idle(visit):
    """Return a visitor whose time only passes when a test says so."""
    visitor = visit("staff")
    visitor.page.clock.install()
    visitor.reload()
    visitor.requests.clear()
    return visitor


def asked(visitor, seconds):
    """Let time pass, and return how often the page has asked for news."""
    visitor.requests.clear()
    for _ in range(seconds):
        visitor.page.clock.run_for(1000)
    return len([url for url in visitor.requests if "part=1" in url])


def test_it_can_be_paused(idle):
    idle.page.click("text=Pause")
    assert idle.page.inner_text("#smtp-pools-state") == "Paused."
    assert asked(idle, 10) == 0
    idle.page.click("text=Continue")
    assert asked(idle, 10) >= 1
    assert idle.page.inner_text("#smtp-pools-state") == ""


def test_words_that_are_being_copied_stay(idle):
    idle.page.evaluate("document.getSelection().selectAllChildren(document.querySelector('#smtp-pools p'))")
    assert asked(idle, 10) == 0
    idle.page.evaluate("document.getSelection().removeAllRanges()")
    assert asked(idle, 10) >= 1


def test_a_site_that_does_not_answer_is_reported_and_asked_again(visit):
    visitor = visit("staff")
    visitor.page.route("**/*part=1*", lambda route: route.abort())
    visitor.page.locator("#smtp-pools-state", has_text="Trying again").wait_for()
    visitor.page.unroute("**/*part=1*")
    visitor.page.locator("#smtp-pools-state:empty").wait_for(state="attached")
    visitor.complaints.clear()  # the browser has complained about the answer that never came


def test_another_process_that_takes_over_is_announced(visit, monkeypatch):
    visitor = visit("staff")
    before = recorder.pid
    monkeypatch.setattr(recorder, "pid", 4711)
    monkeypatch.setattr(recorder, "process", "4711-abc")
    words = f"Process {before} no longer answers. This is process 4711."
    visitor.page.locator("#smtp-pools-state", has_text=words).wait_for()
    visitor.refresh()
    assert visitor.page.inner_text("#smtp-pools-state") == words
    assert [url for url in visitor.requests if "tries=16" in url]


def test_the_end_of_the_session_leads_to_the_login(visit):
    visitor = visit("staff")
    visitor._context.clear_cookies()
    visitor.page.wait_for_selector("#id_username")


def test_without_javascript_there_is_a_link_and_the_buttons_work(visit, server):
    visitor = visit(script=False)
    page = visitor.page
    assert not page.locator("#smtp-pools-pause").is_visible()
    fill(server, pool_of(server, "a"), 2)
    page.click("text=Reload")
    assert boxes(page).count() == 2
    page.click("text=Drain")
    page.wait_for_selector(".messagelist .success")
    assert server.wait_for(lambda: not server.open_now)
    page.click("text=Verify")
    assert "works as configured" in page.inner_text(".messagelist")
    assert "ok connect" in page.inner_text(".smtp-pool-steps")


# Keyboard


def test_everything_can_be_done_by_keyboard(visit, server):
    visitor = visit()
    page = visitor.page
    fill(server, pool_of(server, "a"), 1)
    boxes(page).first.wait_for()
    page.focus("#smtp-pools-pause")
    reached = []
    for _ in range(2):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent"))
    assert reached == ["Verify", "Drain"]
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "one sees where the keyboard is"
    visitor.refresh()
    assert page.evaluate("document.activeElement.textContent") == "Drain"
    page.keyboard.press("Enter")
    page.wait_for_selector(".messagelist .success")
    assert server.wait_for(lambda: not server.open_now)


# What others say, and who may press


def test_what_a_hostile_server_says_is_only_text(visit, server):
    visitor = visit("staff")
    server.refuse_recipients = {"to@example.com": HOSTILE}
    with pytest.raises(Exception, match="evil"):
        pool_of(server, "a").send_messages([message()])
    page = visitor.page
    words = page.locator(".smtp-pool-failures code")
    words.wait_for()
    assert words.inner_text() == HOSTILE.replace("\u202e", "\\u202e")
    assert page.locator("#smtp-pools script, #smtp-pools img").count() == 0


def test_there_is_no_button_without_the_permission_and_none_that_works(visit, server):
    visitor = visit("staff")
    page = visitor.page
    fill(server, pool_of(server, "a"), 1)
    boxes(page).first.wait_for()
    assert page.locator("#smtp-pools button").count() == 0
    answer = page.evaluate(
        """async page => {
            const number = document.querySelector(".smtp-pool").id.split("-")[1];
            const process = document.querySelector("#smtp-pools").dataset.process;
            const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
            const headers = {"X-CSRFToken": token};
            const options = {method: "POST", headers, credentials: "same-origin"};
            return (await fetch(`${page}${number}/drain/?process=${process}`, options)).status;
        }""",
        PAGE,
    )
    assert answer == 403
    assert server.idle_now == 1
    visitor.complaints.clear()  # the browser writes down that it was refused
