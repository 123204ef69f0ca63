"""What the senders were told, and the verdict: compared with what the servers took."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

NEVER = (*("lost", "duplicated", "misreported", "hung", "swallowed", "shared", "above_limit", "left_over", "crashed"),)


@dataclass(kw_only=True)
class Account:
    """What one sender was told, message by message; only its own thread writes it."""

    told: dict = field(default_factory=dict)  # number: outcome
    slowest: float = 0.0
    counts: Counter = field(default_factory=Counter)
    problems: list = field(default_factory=list)

    def note(self, outcomes, took):
        """Write down one call."""
        self.told.update(outcomes)
        self.slowest = max(self.slowest, took)

    def must_not(self, what, text):
        """Write down what must not happen."""
        self.counts[what] += 1
        if len(self.problems) < 10:
            self.problems.append(f"{what}: {text}")


def together(accounts):
    """Return the account of all senders."""
    total = Account()
    for account in accounts:
        total.note(account.told, account.slowest)
        total.counts += account.counts
        total.problems += account.problems
    return total


@dataclass(frozen=True, kw_only=True)
class Result:
    """The figures of a run."""

    sent: int
    refused: int
    unknown: int
    not_sent: int
    lost: int
    duplicated: int
    misreported: int
    hung: int
    swallowed: int
    shared: int
    above_limit: int
    left_over: int
    crashed: int
    alarms: int
    forks: int
    closings: int
    receivers: int
    connections: int
    turned_away: int
    slowest_s: float
    growth_kb: float

    @property
    def is_good(self):
        """Whether nothing happened that must not."""
        return not any(getattr(self, name) for name in NEVER)


def compare(account, memory, report, limits):
    """Return the result: what was told, and what the servers say.

    Arguments:
        memory: (messages so far, bytes) from time to time.
        limits: how many connections each server may see of one process at once.
    """
    taken, processes = Counter(), defaultdict(set)
    for number, (place, connection, process) in report["taken"]:
        taken[number] += 1
        processes[place, connection].add(process)
    told, counts = account.told, account.counts
    outcomes = Counter(told.values())
    denied = [number for number, outcome in told.items() if outcome in ("refused", "not_sent") and taken[number]]
    lost = [number for number, outcome in told.items() if outcome == "accepted" and not taken[number]]
    twice = [number for number, count in taken.items() if count > 1]
    for what, numbers in (("misreported", denied), ("lost", lost), ("duplicated", twice)):
        account.problems += [f"{what}: message {number}, told {told.get(number)}" for number in numbers[:10]]
    account.problems += [f"above limit: {crowd}" for crowd in report["crowds"][:10]]
    return Result(
        sent=outcomes["accepted"],
        refused=outcomes["refused"],
        unknown=outcomes["unknown"],
        not_sent=outcomes["not_sent"],
        lost=len(lost),
        duplicated=len(twice),
        misreported=len(denied),
        hung=counts["hung"],
        swallowed=counts["swallowed"],
        shared=sum(len(each) > 1 for each in processes.values()),
        above_limit=max(0, *(most - limit for most, limit in zip(report["most"], limits, strict=True))),
        left_over=counts["left over"] + sum(report["open"]),
        crashed=counts["crashed"],
        alarms=counts["alarms"],
        forks=counts["forks"],
        closings=counts["closings"],
        receivers=counts["receivers"],
        connections=sum(report["connections"]),
        turned_away=sum(report["turned_away"]),
        slowest_s=round(account.slowest, 2),
        growth_kb=growth(memory),
    )


def growth(memory):
    """Return what a thousand messages of the last half have added, in kB; 0 where nobody looked."""
    half = memory[len(memory) // 2 :]
    if len(half) < 2 or half[-1][0] == half[0][0]:
        return 0.0
    (messages, octets), (messages_then, octets_then) = half[0], half[-1]
    return round((octets_then - octets) / (messages_then - messages), 1)
