"""Borrowing a connection of a pool for a while, as the life of a message does."""

from django_smtp_pool.core.delivery.loan import Loan
from django_smtp_pool.core.drivers import blocking


class Lease:
    """A connection that is the borrower's until it is given back."""

    def __init__(self, loan, connection):
        self.loan = loan
        self.connection = connection

    def __getattr__(self, name):
        return getattr(self.loan, name)

    @property
    def dialled(self):
        return self.loan.connected

    @property
    def slot(self):
        return self.loan._slot

    def give_back(self, error=None, sender=None):
        self.loan.end(error, sender)

    def give_back_stale(self):
        slot, self.loan._slot = self.loan._slot, None
        self.loan._connection = None
        self.loan._service.pool.take_back_stale(slot)


def borrow(service, deadline=float("inf")):
    """Borrow a connection, blocking; an interrupt gives it up."""
    loan = Loan(service, service.clock)
    try:
        connection = blocking.run(loan.take(float("inf") if deadline is None else deadline), service.clock)
    except BaseException:
        loan.abandon()
        raise
    return Lease(loan, connection)
