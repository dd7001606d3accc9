"""A small hub of Hugging Face on loopback: the endpoints that a fetch and a push ask, in memory.

As the real one does, it takes weights by LFS alone: told their hash and size, it says where to put what it lacks, asks
to be told when that is done, and a commit names them by their hash.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_of_the_tests"
BY_LFS = (".safetensors", ".png")


@dataclass
class Hub:
    """Repositories by name: their commits, the newest last, each the files by path."""

    endpoint: str = ""
    repos: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    refused: int = 0
    """A status that every commit is answered with; 0: none."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """What LFS holds, by SHA-256."""
    verified: set[str] = field(default_factory=set)

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
            self.answer(200, {"files": [self.way_of(file["path"]) for file in json.loads(body)["files"]]})
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            self.batch(json.loads(body))
        elif self.path == "/lfs/verify":
            self.verify(json.loads(body))
        elif self.hub.refused:
            self.refuse(self.hub.refused, "Unavailable")
        else:
            self.commit("/".join(self.path.split("/")[3:5]), body)

    def way_of(self, path):
        mode = "lfs" if path.endswith(BY_LFS) else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False}

    def batch(self, asked):
        assert asked["operation"] == "upload" and asked["hash_algo"] == "sha256" and "basic" in asked["transfers"]
        token = {"Authorization": self.headers["Authorization"]}
        objects = []
        for row in asked["objects"]:
            upload = {"href": f"{self.hub.endpoint}/lfs/objects/{row['oid']}", "header": {}}
            verify = {"href": f"{self.hub.endpoint}/lfs/verify", "header": token}
            actions = {} if row["oid"] in self.hub.objects else {"actions": {"upload": upload, "verify": verify}}
            objects.append({"oid": row["oid"], "size": row["size"], **actions})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def do_PUT(self):
        self.hub.asked.append(f"{self.command} {self.path}")
        content = self.read()
        self.hub.objects[hashlib.sha256(content).hexdigest()] = content
        self.answer(200)

    def verify(self, row):
        if len(self.hub.objects.get(row["oid"], b"")) == row["size"]:
            self.hub.verified.add(row["oid"])
            self.answer(200, {})
        else:
            self.refuse(404, "ObjectNotFound")

    def commit(self, repo, body):
        files, wrong = dict(list(self.hub.repos[repo].values())[-1]), []
        for row in map(json.loads, body.splitlines()):
            value, path = row["value"], row["value"].get("path", "")
            if row["key"] == "deletedFile":
                del files[path]
            elif row["key"] == "lfsFile" and value["oid"] in self.hub.verified:
                files[path] = self.hub.objects[value["oid"]]
            elif row["key"] == "file" and not path.endswith(BY_LFS):
                files[path] = base64.b64decode(value["content"])
            elif path:
                wrong.append(path)
        if wrong:
            self.refuse(400, f"{wrong[0]} is no verified object of LFS")
        else:
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
