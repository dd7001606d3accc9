"""A headless Chromium over its DevTools pipe: no driver, no port, no library; messages are JSON that ends in NUL."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


class Tab:
    """One tab: `call` sends a command and waits for its answer; what the page did meanwhile gathers in `events`."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._out, self._in = os.fdopen(to_browser, "wb"), os.fdopen(from_browser, "rb")
        self._buffer, self._next, self._session = b"", 0, None
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> dict:
        self._next += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._next, "method": method, "params": params, **session}
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while (answer := self._read()).get("id") != self._next:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, page: Path) -> None:
        """Loads `page` and waits for its load event."""
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        self.settle(lambda: self.of("Page.loadEventFired"))

    def settle(self, happened: Callable[[], object]) -> None:
        """Gathers events until `happened()`."""
        while not happened():
            self.events.append(self._read())

    def of(self, *methods: str) -> list[dict]:
        """The parameters of the events seen since `open`."""
        return [event["params"] for event in self.events if event.get("method") in methods]

    def value(self, expression: str) -> object:
        """What a JavaScript expression gives in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def _read(self) -> dict:
        while b"\0" not in self._buffer:
            chunk = self._in.read1(1 << 20)
            if not chunk:
                raise RuntimeError("Chromium ended")
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def chromium() -> Iterator[Tab]:
    """A fresh browser with one tab; it reads commands from its descriptor 3 and answers on 4."""
    commands, answers = os.pipe(), os.pipe()
    ends = f"3<&{commands[0]} 4>&{answers[1]}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" {ends}', str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(commands[0], answers[1]),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands[0])
        os.close(answers[1])
        tab = Tab(commands[1], answers[0])
        try:
            yield tab
        finally:
            process.terminate()
            process.wait()
            tab._out.close()
            tab._in.close()
