"""Install a built wheel into a clean environment, and send a message with it.

    python .ci/wheel_sends.py dist

`tox run -e package` builds the wheel and calls this.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

SEND_ONE = Path(__file__).with_name("send_one.py").resolve()


def main(directory: str) -> None:
    """Install the one wheel of a directory, and use it outside of the checkout."""
    (wheel,) = Path(directory).glob("*.whl")
    with tempfile.TemporaryDirectory() as clean:
        venv.create(clean, with_pip=True)
        python = Path(clean) / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", str(wheel.resolve()), "aiosmtpd>=1.4.6"], check=True)
        subprocess.run([python, "-I", "-X", "dev", SEND_ONE], check=True, cwd=clean)


if __name__ == "__main__":
    main(sys.argv[1])
