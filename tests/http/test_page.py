#!/usr/bin/env python3
"""The page at /: what is served, that it is bound to this daemon, and that it asks for what the API has.

tests/http/test_page_browser.py shows it in a browser, where there is one."""

import os
import re

from harness import Daemon, SOURCE, main, token_file, token_line

PAGE = os.path.join(SOURCE, "src", "http", "page")
FILES = {"/": ("index.html", "text/html"), "/page.js": ("page.js", "text/javascript"),
         "/style.css": ("style.css", "text/css")}


def text(name):
    with open(os.path.join(PAGE, name), encoding="utf-8") as f:
        return f.read()


def story_its_files_are_served_as_they_are(d):
    for path, (name, kind) in FILES.items():
        reply = d.get(path, headers={"Accept": f"{kind},*/*;q=0.1"}, expect=200)
        assert reply.body.decode("utf-8") == text(name), path
        assert reply.headers["Content-Type"] == f"{kind}; charset=utf-8", path
        assert d.head(path, expect=200).body == b""
        assert d.post(path, {}, expect=405).headers["Allow"] == "GET, HEAD"
    d.get("/", headers={"Accept": "application/json"}, expect=406)
    for path in ("//", "/index.html", "/page.js/", "/src/http/page/page.js"):
        d.get(path, expect=404)


def story_its_headers_bind_it(d):
    for path in FILES:
        headers = d.get(path, expect=200).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'", policy
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'", policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


def story_it_needs_no_token_but_what_it_shows_does():
    with Daemon() as plain:
        tokens = token_file(plain.directory, token_line("people", "0123456789abcdef"))
        with Daemon("--set", f"http.token_file={tokens}") as d:
            for path in FILES:
                d.get(path, expect=200)
            d.get("/v1/stats", expect=401)


def story_nothing_in_it_goes_beyond_the_policy():
    html, script, style = text("index.html"), text("page.js"), text("style.css")
    assert re.findall(r"<script\b[^>]*>([^<]*)", html) == [""], "a script of its own file alone"
    assert "<style" not in html and "style=" not in html and not re.search(r"\son\w+=", html)
    for name, source in (("index.html", html), ("page.js", script), ("style.css", style)):
        outside = set(re.findall(r"(?:https?:)?//[\w.-]+\.[\w/.-]+", source))
        assert outside <= {"http://www.w3.org/2000/svg"}, f"{name}: {outside}"
        assert "url(" not in source and "@import" not in source, name
    for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(",
                   "localStorage", "cookie", ".style"):
        assert danger not in script, danger


def story_its_script_and_its_document_fit():
    html, script = text("index.html"), text("page.js")
    ids = re.findall(r'\bid="([\w-]+)"', html)
    assert len(set(ids)) == len(ids)
    asked = set(re.findall(r'byId\("([\w-]+)"\)', script)) | set(tables())
    assert asked <= set(ids), asked - set(ids)


def tables():
    """{name: the source of its columns}"""
    block = re.search(r"^const TABLES = \{\n(.*?)^\};", text("page.js"), re.M | re.S)[1]
    return dict(re.findall(r"^  (\w+): \[\n(.*?)^  \],", block, re.M | re.S))


def members(document, schema):
    """The properties of a schema, and of those that it is made of."""
    schema = document["components"]["schemas"][schema] if isinstance(schema, str) else schema
    found = set(schema.get("properties", {}))
    for part in schema.get("allOf", []):
        found |= members(document, part["$ref"].rsplit("/", 1)[1] if "$ref" in part else part)
    return found


def story_it_asks_for_what_the_api_has(d):
    document, script = d.get("/openapi.json", expect=200).json, text("page.js")
    paths = re.findall(r'ask(?:Json)?\(["`](v1/[^"`?]*)', script)
    known = {re.sub(r"\{\w+\}", "{}", path) for path in document["paths"]}
    asked = {"/" + re.sub(r"\$\{id\}", "{}", path) for path in paths} - {"/v1/${name}"}
    assert asked and asked <= known, asked - known
    schemas = {"exports": "Export", "sessions": "Session", "programs": "Program", "models": "Model"}
    assert set(tables()) == set(schemas)
    for name, columns in tables().items():
        assert f"/v1/{name}" in known
        used = {member for variable in re.findall(r"\((\w+)\) =>", columns)
                for member in re.findall(rf"\b{variable}\.(\w+)", columns)}
        has = members(document, schemas[name])
        assert used and used <= has, f"{name}: {used - has}"


if __name__ == "__main__":
    main(globals())
