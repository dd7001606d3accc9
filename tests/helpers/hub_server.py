"""A small hub of Hugging Face on loopback: the endpoints that a fetch and a push ask, in memory."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_of_the_tests"


@dataclass
class Hub:
    """Repositories by name: their commits, the newest last, each the files by path."""

    endpoint: str = ""
    repos: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    refused: int = 0
    """A status that every commit is answered with; 0: none."""

    def add(self, repo: str, files: dict[str, bytes]) -> str:
        """A commit of all these files; its hash."""
        commits = self.repos.setdefault(repo, {})
        commit = hashlib.sha1(f"{repo}{len(commits)}".encode()).hexdigest()
        commits[commit] = dict(files)
        return commit

    def commit_of(self, repo: str, revision: str) -> str | None:
        commits = self.repos[repo]
        return revision if revision in commits else next(reversed(commits), None) if revision == "main" else None


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status, code):
        self.answer(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def read(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.hub.asked.append(f"{self.command} {self.path}")
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.info("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        elif len(parts) > 3 and parts[2] == "resolve":
            self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.answer(200)

    def info(self, repo, revision):
        if repo not in self.hub.repos:
            self.refuse(404, "RepoNotFound")
        elif (commit := self.hub.commit_of(repo, revision)) is None:
            self.refuse(404, "RevisionNotFound")
        else:
            files = self.hub.repos[repo][commit]
            self.answer(
                200,
                {"id": repo, "sha": commit, "siblings": [{"rfilename": p, "size": len(b)} for p, b in files.items()]},
            )

    def file(self, repo, revision, path):
        commit = self.hub.commit_of(repo, revision)
        content = self.hub.repos[repo][commit].get(path)
        if repo in self.hub.gated:
            self.refuse(403, "GatedRepo")
        elif content is None:
            self.refuse(404, "EntryNotFound")
        else:
            self.answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=commit)

    def do_POST(self):
        self.hub.asked.append(f"{self.command} {self.path}")
        body = self.read()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "Unauthorized")
        elif self.path == "/api/repos/create":
            row = json.loads(body)
            repo = f"{row.get('organization') or 'me'}/{row['name']}"
            if not self.hub.repos.get(repo):
                self.hub.add(repo, {".gitattributes": b""})
            self.answer(200, {"url": f"{self.hub.endpoint}/{repo}"})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self.answer(
                200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        elif self.hub.refused:
            self.refuse(self.hub.refused, "Unavailable")
        else:
            self.commit("/".join(self.path.split("/")[3:5]), body)

    def commit(self, repo, body):
        files = dict(list(self.hub.repos[repo].values())[-1])
        for row in map(json.loads, body.splitlines()):
            if row["key"] == "file":
                files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            elif row["key"] == "deletedFile":
                del files[row["value"]["path"]]
        commit = self.hub.add(repo, files)
        self.answer(200, {"commitUrl": f"{self.hub.endpoint}/{repo}/commit/{commit}", "commitOid": commit})


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers while the block lasts."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Of", (Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
