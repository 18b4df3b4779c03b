"""The official conformance suite, as a program that tells a verdict for each of its checks."""

import json
import re
import subprocess
from pathlib import Path

from rig.paths import NODE

TIMESTAMP = r"-\d{4}-\d\d-\d\dT[\d-]+Z$"
DEADLINE = 100.0

Verdict = tuple[str, str, str]
"""Scenario, check and status."""


def verdicts(program: str, *options: str, url: str, results: Path) -> list[Verdict]:
    """In the order of the scenarios' names, and within one as the suite gave them."""
    command = [NODE, program, "server", "--url", url, "--output-dir", str(results), *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    files = list(results.glob("*/checks.json"))
    assert files, run.stdout + run.stderr
    return [
        (re.sub(TIMESTAMP, "", file.parent.name), check["id"], check["status"])
        for file in sorted(files)
        for check in json.loads(file.read_text())
    ]
