#!/usr/bin/env python3
"""Asks OSV, which mirrors the RustSec advisory database, about all packages that are built: python3 tests/advisories.py

Exit code 1: one of them has a vulnerability. Where OSV is out of reach nothing is checked, and the exit code is 0.
Advisories that are only informational (unmaintained, say) are shown and change nothing.
"""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

OSV = os.environ.get("EVM_OSV_URL", "https://api.osv.dev")
SECONDS = 20


def built():
    """Name and version of each package of the workspace's own platform."""
    tree = ["cargo", "tree", "--workspace", "--locked", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}"]
    lines = subprocess.run(tree, cwd=Path(__file__).parent.parent, check=True, capture_output=True, text=True).stdout.splitlines()
    # `name v1.2.3`; our own have a path behind it.
    words = (line.split() for line in lines if line and "(/" not in line)
    return sorted({(name, version.removeprefix("v")) for name, version, *_ in words})


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(OSV + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return json.load(answer)


def is_informational(advisory):
    affected = advisory.get("affected", [])
    return bool(affected) and all("informational" in one.get("database_specific", {}) for one in affected)


def main():
    packages = built()
    queries = [{"package": {"name": name, "ecosystem": "crates.io"}, "version": version} for name, version in packages]
    bad = 0
    try:
        for package, result in zip(packages, ask("/v1/querybatch", {"queries": queries})["results"]):
            for found in result.get("vulns", []):
                advisory = ask(f"/v1/vulns/{found['id']}")
                informational = is_informational(advisory)
                bad += not informational
                print(*package, found["id"], "(informational)" if informational else "", advisory.get("summary", ""))
    except OSError as error:
        print(f"advisories: {OSV} is out of reach, nothing checked: {error}")
        return 0
    print(f"advisories: {len(packages)} packages, {bad} vulnerable")
    return 1 if bad else 0


sys.exit(main())
