"""Insist that the tests against real servers ran, and that none was skipped: the argument is a report by pytest."""

import sys
from xml.etree import ElementTree as ET

cases = [case for case in ET.parse(sys.argv[1]).iter("testcase") if "tests.realservers" in case.get("classname")]
skipped = [case.get("name") for case in cases if case.find("skipped") is not None]
print(f"real servers: {len(cases)} tests, {len(skipped)} of them skipped")
if skipped or not cases:
    sys.exit(f"the tests against real servers did not all run: {skipped}")
