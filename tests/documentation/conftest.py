"""What the tests of code blocks share."""

import pytest

from tests.documentation.settings import loaded
from tests.servers.certificates import certificates


@pytest.fixture(name="load", scope="session")
def fixture_load(tmp_path_factory):
    """Return a function that runs settings, with certificate files where the documentation has them."""
    directory = tmp_path_factory.mktemp("ssl")
    certificate, key = certificates().write_client(directory)
    certificate.rename(directory / "shop.pem")
    key.rename(directory / "shop.key")
    certificates().write_authority(directory).rename(directory / "company-ca.pem")
    return lambda code, *names: loaded(code.replace("/etc/ssl", str(directory)), *names)
