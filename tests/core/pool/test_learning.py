"""What a pool learns from its server's replies, and when it forgets."""

import pytest

from django_smtp_pool.core.errors import AuthRefused, DataRefused, GreetingRefused, SenderRefused, Stage, refusal
from django_smtp_pool.core.pool.learning import JUST_FORCED, SENDERS, Incident, Lessons
from django_smtp_pool.core.replies import Reply

KINDS = {
    Stage.GREETING: GreetingRefused,
    Stage.AUTH: AuthRefused,
    Stage.MAIL: SenderRefused,
    Stage.CONTENT: DataRefused,
}


def incident(text, stage, *, alive=2, carried=0, idled=0.0, sender="from@example.com"):
    code, _, words = text.partition(" ")
    reply = Reply(code=int(code), lines=(words.encode(),))
    extra = (sender,) if stage is Stage.MAIL else ()
    error = refusal(KINDS[stage], reply, *extra, stage=stage)
    return Incident(error=error, stage=stage, reply=reply, alive=alive, carried=carried, idled=idled, sender=sender)


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("421 4.7.0 too many connections", Stage.GREETING),
        ("421 mwinf5c42 ME Trop de connexions", Stage.GREETING),
        ("432 4.3.2 Concurrent connections limit exceeded", Stage.AUTH),
        ("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", Stage.CONTENT),
        ("421 Too many concurrent SMTP connections", Stage.MAIL),
    ],
)
def test_a_new_connection_sent_away_while_others_work_lowers_the_ceiling(text, stage):
    lessons = Lessons()
    lessons.learn(incident(text, stage, alive=3), now=0)
    assert lessons.ceiling == 3
    assert text.partition(" ")[2] in lessons.why["max_connections"]


def test_nobody_else_alive_teaches_nothing():
    lessons = Lessons()
    lessons.learn(incident("421 4.7.0 too many connections", Stage.GREETING, alive=0), now=0)
    assert lessons.ceiling is None


def test_the_words_teach_nothing():
    lessons = Lessons()
    lessons.learn(incident("550 5.7.1 too many connections", Stage.MAIL), now=0)
    assert lessons == Lessons()


def test_a_lowered_ceiling_rises_step_by_step_and_is_forgotten_at_the_top():
    lessons = Lessons()
    lessons.learn(incident("421 x", Stage.GREETING, alive=2), now=0)
    heights = []
    for now in (59, 60, 120, 180):
        lessons.pass_time(now, highest=5)
        heights.append(lessons.ceiling)
    assert heights == [2, 3, 4, None]
    assert lessons.why == {}


def test_a_421_after_so_many_messages_is_believed_the_second_time():
    lessons = Lessons()
    for _ in range(2):
        assert lessons.max_messages is None
        lessons.learn(incident("421 Maximum message count per session reached", Stage.MAIL, carried=5), now=0)
    assert lessons.max_messages == 5
    lessons.pass_time(3600, highest=5)
    assert lessons.max_messages is None


def test_a_421_after_a_long_rest_is_about_the_rest():
    lessons = Lessons()
    for _ in range(3):
        lessons.learn(incident("421 4.4.2 timeout", Stage.MAIL, carried=5, idled=40), now=0)
    assert lessons.max_messages is None


def test_a_454_pauses_longer_each_time_until_a_message_goes():
    lessons = Lessons()
    pauses = []
    now = 0.0
    for _ in range(7):
        lessons.learn(incident("454 Throttling failure: Maximum sending rate exceeded", Stage.CONTENT), now)
        pauses.append(lessons.paused_until - now)
        now = lessons.paused_until
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    lessons.sent("from@example.com", now)
    lessons.learn(incident("454 again", Stage.CONTENT), now)
    assert lessons.paused_until - now == 1


def test_after_a_refused_login_one_may_try_each_half_minute_and_the_others_hear_the_same():
    lessons = Lessons()
    refused = incident("535 5.7.8 no", Stage.AUTH, alive=0)
    lessons.learn(refused, now=0)
    assert not lessons.may_log_in(29)
    told = lessons.refusal()
    assert (type(told), told.args, told.reply) == (AuthRefused, refused.error.args, refused.reply)
    assert told is not refused.error
    assert lessons.may_log_in(30)
    lessons.logs_in(30)
    assert not lessons.may_log_in(30)
    lessons.logged_in()
    assert lessons.may_log_in(31)


def test_connections_found_dead_twice_shorten_the_idling():
    lessons = Lessons()
    lessons.died_idle(40, now=0)
    assert lessons.idle_timeout is None
    lessons.died_idle(20, now=0)
    assert lessons.idle_timeout == pytest.approx(16)
    lessons.died_idle(0.2, now=0)  # a server that restarts, say
    assert lessons.idle_timeout == pytest.approx(16)


def test_each_lesson_is_told_once():
    lessons = Lessons()
    for now in range(10):
        lessons.learn(incident("421 x", Stage.GREETING, alive=2), now=now)
    assert len(lessons.news) == 1


# What 450 to MAIL says: about this sender, or about everybody


def paused(lessons):
    return lessons.paused_until > 0


def test_a_sender_that_was_never_accepted_pauses_nobody():
    lessons = Lessons()
    for now in range(50):
        lessons.learn(incident("450 4.7.1 later", Stage.MAIL, sender="bad@example.com"), now)
    assert not paused(lessons)


def test_a_sender_that_was_accepted_before_shows_that_it_is_about_everybody():
    lessons = Lessons()
    lessons.takes_mail_from("good@example.com")
    lessons.learn(incident("450 4.7.1 too much mail", Stage.MAIL, sender="good@example.com"), 0)
    assert paused(lessons)


@pytest.mark.parametrize(("seconds", "pauses"), [(10, True), (10.1, False)])
def test_two_senders_within_ten_seconds_are_everybody(seconds, pauses):
    lessons = Lessons()
    lessons.learn(incident("450 4.7.1 later", Stage.MAIL, sender="a@example.com"), 0)
    lessons.learn(incident("450 4.7.1 later", Stage.MAIL, sender="b@example.com"), seconds)
    assert paused(lessons) == pauses


def test_a_reply_about_an_address_is_about_that_address():
    lessons = Lessons()
    for sender in ("a@example.com", "b@example.com"):
        lessons.takes_mail_from(sender)
        lessons.learn(incident("450 4.1.8 domain not found", Stage.MAIL, sender=sender), 1)
    assert not paused(lessons)


def test_the_senders_that_are_remembered_are_bounded():
    lessons = Lessons()
    for number in range(3 * SENDERS):
        lessons.takes_mail_from(f"{number}@example.com")
    assert len(lessons._senders) == SENDERS


def test_no_pause_is_longer_than_it_may_be():
    lessons, now, pauses = Lessons(longest_pause=2.5), 0, []
    for _ in range(4):
        lessons.learn(incident("454 later", Stage.CONTENT), now)
        pauses.append(lessons.paused_until - now)
        now = lessons.paused_until
    assert pauses == [1, 2, 2.5, 2.5]


def test_a_421_soon_after_a_forced_close_says_nothing_about_the_ceiling():
    """The server still counts the connection that we have given up."""
    lessons = Lessons(forced_at=100)
    lessons.learn(incident("421 too many connections", Stage.GREETING, alive=2), now=100 + JUST_FORCED - 0.1)
    assert lessons.ceiling is None
    lessons.learn(incident("421 too many connections", Stage.GREETING, alive=2), now=100 + JUST_FORCED)
    assert lessons.ceiling == 2
