"""Send for a long time through servers that fail at random, and compare what is told with what they took.

    python -m tests.soak --minutes 5 [--without alarms forks] [--gevent] [--no-chunking] [--stock]

Three servers run in a process of their own: one in clear and one under TLS with a login, which fail at random points of
the conversation, and one on a Unix socket with a limit of connections, which answers QUIT slowly and refuses MAIL on
connections that it has used before (454, 450, 452). Each thread sends to all of them, messages one by one and in
batches. Meanwhile:

    alarms      SIGALRM strikes in the main thread at any moment, and its handler raises a TimeoutError or another
                Exception; under gevent, a gevent.Timeout strikes in each greenlet
    forks       any thread forks; the child sends over the same mailers, and exits with a verdict of its own
    closing     close_all() comes at any moment
    receivers   those of the four signals raise, sleep, and send mail themselves

The verdict. Lost: told accepted, and the server has not got it. Duplicated: it has got it twice. Misreported: told
refused or not sent, and it has got it. Hung: a thread or a child that did not end, or a call that took longer than all
its time-outs together. Swallowed: the exception of an alarm that did not reach its caller. Shared: a connection that
carried mail of two processes. Above limit: by how many connections of one process at once, as the servers count them,
`max_connections` was exceeded. Left over: places of a pool that are taken when nobody sends, and connections that are
open when all pools are closed. Crashed: anything else that a sender met. All of these must be 0. Growth: what the last
half of the run added to the memory of the client, in kB for each thousand messages; noise stays below GROWTH.

Everything random comes from `--seed`; which thread comes first does not, so a run is not repeated to the letter.

`--stock` sends through Django's own backend instead (with a socket time-out, or it would not end), for comparison, and
without the four troubles: it does not tell what became of a message, so an exception counts as "not sent", and of a
batch that failed, what was not counted as sent as well.
"""

import sys

if "--gevent" in sys.argv:
    from gevent import monkey

    monkey.patch_all()

import argparse
import logging
import os
import tracemalloc
import warnings

TROUBLES = ("alarms", "forks", "closing", "receivers")
GROWTH = 100  # kB for each thousand messages; a message of the soak has less than 1 kB
QUIET = ("django_smtp_pool", "django.dispatch")  # loggers: a handler swallows what an alarm raises in it


def main():
    """Run from the command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()
    from tests.soak.soak import Soak

    given = _parsed()
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    tracemalloc.start()
    result, problems = Soak(
        seconds=60 * given.minutes,
        threads=given.threads,
        rate=given.rate,
        seed=given.seed,
        chunking=not given.no_chunking,
        stock=given.stock,
        gevent=given.gevent,
        messages=given.messages,
        patience=given.patience,
        troubles=frozenset() if given.stock else frozenset(TROUBLES).difference(given.without),
    ).run()
    for name, value in vars(result).items():
        sys.stdout.write(f"{name.replace('_', ' '):>13}: {value}\n")
    sys.stdout.writelines(f"{problem}\n" for problem in problems)
    has_grown = given.messages is None and result.growth_kb >= GROWTH  # a few messages tell nothing of growth
    sys.exit(0 if given.stock or (result.is_good and not has_grown) else 1)


def _parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--messages", type=int, help="end after so many messages")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--rate", type=float, default=0.03, help="share of all points at which the servers fail")
    parser.add_argument("--seed", default="soak")
    parser.add_argument("--patience", type=float, default=2.0, help="each of the client's time-outs, in seconds")
    parser.add_argument("--without", nargs="+", choices=TROUBLES, default=[], help="troubles that are left out")
    parser.add_argument("--no-chunking", action="store_true")
    parser.add_argument("--gevent", action="store_true", help="under gevent, without forks")
    parser.add_argument("--stock", action="store_true", help="through Django's own backend, for comparison")
    given = parser.parse_args()
    if given.gevent:
        # All greenlets go on in a child, whatever they were doing: nothing of ours can help that.
        given.without.append("forks")
    return given


if __name__ == "__main__":
    main()
