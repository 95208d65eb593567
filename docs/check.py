#!/usr/bin/env python3
"""Holds the documents against the repository: python3 docs/check.py. Needs nothing but Python.

- relative links in all Markdown files lead somewhere, anchors included;
- files that are named in ARCHITECTURE.md and docs/ exist;
- the Postman collection, its environment and the schemas are JSON, and the collection names only calls of docs/app/openapi.json;
- every setting of evm/src/settings/mod.rs stands in README.md with its default, and no other;
- every error code of billing-api/src/http/problem.rs stands in docs/app/README.md with its status, and no other.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("domain", "store", "ports", "bus", "csms", "billing-api", "evm", "ocpp-sim", "qpay-sim", "tests", "bench", "migrations", "docs")
wrong = []


def without_code(text):
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)


def anchors(path):
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.S), flags=re.M)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", head) for head in heads]
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in plain}


def links(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists():
            wrong.append(f"{path.relative_to(ROOT)}: {target} leads nowhere")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            wrong.append(f"{path.relative_to(ROOT)}: {target} has no such heading")


def names(path):
    for name in re.findall(r"`([\w.-]+/[\w./-]+)`", path.read_text()):
        if name.split("/")[0] in PACKAGES and not (ROOT / name).exists():
            wrong.append(f"{path.relative_to(ROOT)}: there is no {name}")


def requests(items):
    for item in items:
        if "item" in item:
            yield from requests(item["item"])
        else:
            yield item["request"]


def postman():
    folder = ROOT / "docs/app/postman"
    for file in [*folder.glob("*.json"), *(ROOT / "docs/app/events").glob("*.json")]:
        json.loads(file.read_text())
    document = ROOT / "docs/app/openapi.json"
    if not document.exists():
        wrong.append("docs/app/openapi.json is missing")
        return
    paths = json.loads(document.read_text())["paths"]
    calls = {(method.upper(), re.sub(r"\{[^}]*\}", "*", path)) for path in paths for method in paths[path]}
    collection = json.loads((folder / "evm.postman_collection.json").read_text())
    environment = json.loads((folder / "local.postman_environment.json").read_text())
    known = {value["key"] for value in environment["values"]}
    for request in requests(collection["item"]):
        raw = request["url"]["raw"]
        path = re.sub(r"\{\{\w+\}\}", "*", raw.removeprefix("{{baseUrl}}").split("?")[0])
        if (request["method"], path) not in calls:
            wrong.append(f"the Postman collection names {request['method']} {path}, which the API has not")
    for name in set(re.findall(r"\{\{(\w+)\}\}", json.dumps(collection))) - known:
        wrong.append(f"the Postman collection uses {name}, which its environment has not")


def settings():
    text = (ROOT / "evm/src/settings/mod.rs").read_text()
    listed = text.split("\nsettings! {", 1)[1].split("\n}", 1)[0]
    code = {"EVM_" + key.upper(): value or "" for key, value in re.findall(r'^    (\w+): \w+(?: = "([^"]*)")?;', listed, flags=re.M)}
    section = (ROOT / "README.md").read_text().split("## Settings", 1)[1].split("\n## ", 1)[0]
    told = {name: default.strip().strip("`") for name, default in re.findall(r"^\| `(EVM_\w+)` \|([^|]*)\|", section, flags=re.M)}
    for name in code.keys() - told.keys():
        wrong.append(f"README.md lacks the setting {name}")
    for name in told.keys() - code.keys():
        wrong.append(f"README.md has {name}, which is no setting")
    for name in code.keys() & told.keys():
        if code[name] != told[name]:
            wrong.append(f"README.md says {name} is {told[name]!r} by default, and it is {code[name]!r}")


def codes():
    text = (ROOT / "billing-api/src/http/problem.rs").read_text()
    listed = text.split("\ncodes! {", 1)[1].split("\n}", 1)[0]
    code = {(word, status) for status, word in re.findall(r'(\d{3}) "(\w+)"', listed)}
    section = (ROOT / "docs/app/README.md").read_text().split("## Errors", 1)[1].split("\n## ", 1)[0]
    told = {(word, status) for status, word in re.findall(r"^\| (\d{3}) \| `(\w+)` \|", section, flags=re.M)}
    wrong.extend(f"docs/app/README.md lacks the code {word} ({status})" for word, status in code - told)
    wrong.extend(f"docs/app/README.md has {word} ({status}), which is no code" for word, status in told - code)


def main():
    skipped = {".venv", "target", ".git"}
    pages = [page for page in ROOT.rglob("*.md") if not skipped & set(page.relative_to(ROOT).parts)]
    for page in pages:
        links(page)
    for page in [ROOT / "ARCHITECTURE.md", ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        names(page)
    postman()
    settings()
    codes()
    for line in wrong:
        print(line)
    print(f"docs: {len(pages)} pages, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
