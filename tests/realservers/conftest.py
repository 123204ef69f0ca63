"""Real servers, started once for the session, and given to each test with nothing left from the last."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from django_smtp_pool import close_all

from . import certificates, dovecot, dovecot_lmtp, exim, postfix, redis_server
from .certificates import Certificates
from .dovecot import Dovecot
from .dovecot_lmtp import DovecotLmtp
from .exim import Exim
from .postfix import Postfix
from .redis_server import RedisServer
from .server import Account, MailServer

_HERE = Path(__file__).parent
_USERNAME = "django@example.com"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this directory, and let none take long."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.realserver)
            item.add_marker(pytest.mark.timeout(60))


@pytest.fixture(autouse=True)
def no_connection_survives() -> Iterator[None]:
    """Close what the test has left in the pools."""
    yield
    close_all(timeout=5)


@pytest.fixture(scope="session")
def account() -> Account:
    """Return the one account that the servers know."""
    return Account(username=_USERNAME, password="correct horse battery staple", token=dovecot.token_for(_USERNAME))


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """Make a directory that the servers' own users can enter: pytest's are for the tests' user alone."""
    directory = Path(tempfile.mkdtemp(prefix="realservers-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def issued(place: Path) -> Certificates:
    """Make the certificates of this session."""
    return certificates.issue(place / "certificates")


@pytest.fixture(scope="session")
def sasl_authority(place: Path, account: Account) -> Iterator[Dovecot]:
    """Run Dovecot for the session."""
    authority = dovecot.create(place / "dovecot", account=account)
    try:
        authority.start()
        yield authority
    finally:
        authority.stop()


@pytest.fixture(scope="session")
def postfix_of_the_session(place: Path, sasl_authority: Dovecot, issued: Certificates) -> Iterator[Postfix]:
    """Run Postfix for the session."""
    server = postfix.create(place / "postfix", dovecot=sasl_authority, certificates=issued)
    with server.running():
        yield server


@pytest.fixture(name="postfix")
def fixture_postfix(postfix_of_the_session: Postfix) -> Postfix:
    """Return the running Postfix with an empty mailbox and an empty log."""
    postfix_of_the_session.forget()
    return postfix_of_the_session


@pytest.fixture(scope="session")
def exim_of_the_session(place: Path, account: Account, issued: Certificates) -> Iterator[Exim]:
    """Run Exim for the session."""
    server = exim.create(place / "exim", account=account, certificates=issued)
    with server.running():
        yield server


@pytest.fixture(name="exim")
def fixture_exim(exim_of_the_session: Exim) -> Exim:
    """Return the running Exim with an empty mailbox and an empty log."""
    exim_of_the_session.forget()
    return exim_of_the_session


@pytest.fixture(scope="session")
def redis_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run Redis for the session."""
    server = redis_server.create(tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(name="store")
def fixture_store(redis_of_the_session: RedisServer) -> RedisServer:
    """Return the running Redis with nothing in it."""
    redis_of_the_session.forget()
    return redis_of_the_session


@pytest.fixture(scope="session")
def lmtp_of_the_session(place: Path, account: Account, issued: Certificates) -> Iterator[DovecotLmtp]:
    """Run Dovecot's LMTP server for the session."""
    server = dovecot_lmtp.create(place / "dovecot-lmtp", account=account, certificates=issued)
    with server.running():
        yield server


@pytest.fixture(name="lmtp")
def fixture_lmtp(lmtp_of_the_session: DovecotLmtp) -> DovecotLmtp:
    """Return the running LMTP server with empty mailboxes and an empty log."""
    lmtp_of_the_session.forget()
    return lmtp_of_the_session


@pytest.fixture(params=["postfix", "exim"])
def server(request: pytest.FixtureRequest) -> MailServer:
    """Return each mail server in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, MailServer)
    return found
