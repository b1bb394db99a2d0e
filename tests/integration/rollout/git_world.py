"""Real repositories for deployments: bare ones on disk, and the same behind HTTP."""

import base64
import os
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

AUTHOR = "Deploy Bot <bot@example.org>"
USER, TOKEN = "deployer", "tok+en/with spec%als=="


def git(*arguments, cwd, given=None):
    env = {
        "PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C",
        "GIT_AUTHOR_NAME": "A Person", "GIT_AUTHOR_EMAIL": "person@example.org",
        "GIT_COMMITTER_NAME": "A Person", "GIT_COMMITTER_EMAIL": "person@example.org",
        "GIT_ALLOW_PROTOCOL": "file",
    }  # fmt: skip
    done = subprocess.run(["git", *arguments], cwd=cwd, env=env, input=given, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


class Repository:
    """A bare repository with one commit on `main`, and a way for people to change it."""

    def __init__(self, folder, filters=True):
        self.bare = Path(folder) / "models.git"
        self.work = Path(folder) / "people"
        self.bare.mkdir(parents=True)
        git("init", "--quiet", "--bare", "--initial-branch=main", ".", cwd=self.bare)
        git("config", "http.receivepack", "true", cwd=self.bare)
        git("config", "receive.advertisePushOptions", "true", cwd=self.bare)
        git("config", "uploadpack.allowFilter", str(filters).lower(), cwd=self.bare)
        git("clone", "--quiet", self.url, str(self.work), cwd=folder)
        git("checkout", "--quiet", "-B", "main", cwd=self.work)
        self.write({"README.md": "Models of the team.\n"}, "First")

    @property
    def url(self):
        return f"file://{self.bare}"

    def write(self, files, message="By hand", branch="main"):
        self.pull(branch)
        for path, text in files.items():
            target = self.work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.push(message, branch)

    def pull(self, branch="main"):
        if git("ls-remote", "origin", branch, cwd=self.work):
            git("fetch", "--quiet", "origin", branch, cwd=self.work)
            git("reset", "--quiet", "--hard", "FETCH_HEAD", cwd=self.work)

    def push(self, message="By hand", branch="main"):
        git("add", "--all", cwd=self.work)
        git("commit", "--quiet", "-m", message, cwd=self.work)
        git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}", cwd=self.work)

    def hook(self, name, text):
        hook = self.bare / "hooks" / name
        hook.write_text(f"#!/bin/sh\n{text}\n")
        hook.chmod(0o755)

    def show(self, path, branch="main"):
        return git("show", f"{branch}:{path}", cwd=self.bare)

    def log(self, form="%s", branch="main"):
        return git("log", f"--format={form}", branch, cwd=self.bare).splitlines()

    def trailer(self, key, branch="main"):
        form = f"%(trailers:key={key},valueonly,separator=%x2C)"
        return git("log", "-1", f"--format={form}", branch, cwd=self.bare)

    def tip(self, branch="main"):
        return git("rev-parse", branch, cwd=self.bare)

    def branches(self):
        return git("for-each-ref", "--format=%(refname:short)", "refs/heads", cwd=self.bare).split()


@contextmanager
def over_http(repository, token=TOKEN, answer=None):
    """`git http-backend` behind basic authentication: (address, list of requests).

    `answer(handler)` may answer a request in its place, and says so by returning True.
    """
    asked = []
    backend = Path(git("--exec-path", cwd=repository.bare))
    right = "Basic " + base64.b64encode(f"{USER}:{token}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def log_message(self, *_):
            pass

        def do_GET(self):
            path, _, query = self.path.partition("?")
            asked.append((self.command, self.path, self.headers.get("Authorization")))
            if answer is not None and answer(self):
                return
            self.reply(*self.ask_git(path, query))

        def ask_git(self, path, query):
            """Status, headers and body."""
            if self.headers.get("Authorization") != right:
                return 401, {"WWW-Authenticate": 'Basic realm="git"'}, b""
            env = {
                "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(repository.bare.parents[1]),
                "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
                "REQUEST_METHOD": self.command, "REMOTE_USER": USER,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }  # fmt: skip
            done = subprocess.run(
                [str(backend / "git-http-backend")], input=self.read_body(), env=env,
                capture_output=True,
            )  # fmt: skip
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if line)
            return int(fields.pop("Status", "200 OK").split()[0]), fields, body

        def reply(self, status, fields, body):
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def read_body(self):
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            return body

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        path = repository.bare.relative_to(repository.bare.parents[1])
        yield f"http://127.0.0.1:{server.server_port}/{path}", asked
    finally:
        server.shutdown()
        server.server_close()
