"""A Hub on the loopback interface, for the real client: repositories in memory, and faults on demand.

It speaks what huggingface_hub and datasets need of the Hub's HTTP interface: models and datasets, commits,
LFS, branches, tags, pull requests, private repositories, ranges. `hub.faults["commit"] = [Fault("lost")]`
makes the next request of that kind fail; `hub.requests` has the kinds of all requests so far. The kinds are
the names of the view functions in `hub_routes`, and "head" for the HEAD of a file.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from time import sleep

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server

from hub_repos import Repos
from hub_routes import add_routes


@dataclass
class Fault:
    """How one request fails.

    kind: "status" (answered by `status`, nothing done), "unheard" (the connection drops, nothing done),
        "lost" (done, and the connection drops before the answer), "half" (drops half-way through the answer),
        "slow" (the answer trickles), "size" (shorter than announced), "corrupt" (one byte is flipped),
        "overtaken" (someone else commits first).
    """

    kind: str
    status: int = 500
    retry_after: str | None = None
    pause: float = 0.05


class LoopbackHub(Repos):
    """The server, at `url` while it runs."""

    def __init__(self, lfs: bool = True):
        super().__init__(lfs)
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[str] = []
        self._lock = threading.RLock()
        self._server = make_server(
            "127.0.0.1", 0, create_app(self), threaded=True, request_handler=_QuietHandler
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()

    def clear(self) -> None:
        """Forget all repositories, faults and requests."""
        for store in (self.repos, self.blobs, self.faults, self.requests):
            store.clear()

    def next_fault(self, kind: str) -> Fault | None:
        with self._lock:
            waiting = self.faults.get(kind)
            return waiting.pop(0) if waiting else None


class _QuietHandler(WSGIRequestHandler):
    def log_request(self, *args, **kwargs) -> None:
        pass

    def connection_dropped(self, error: BaseException, environ: dict | None = None) -> None:
        self.close_connection = True


def create_app(hub: LoopbackHub) -> Flask:
    """The Hub's routes; each request is counted, and fails if a fault waits for it."""
    app = Flask("loopback_hub")

    @app.before_request
    def before() -> Response | None:
        request.get_data()  # the server hangs on to connections with unread bodies
        request.kind = "head" if request.method == "HEAD" else request.endpoint
        hub.requests.append(request.kind)
        request.fault = fault = hub.next_fault(request.kind)
        if fault is not None and fault.kind == "status":
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            return Response("try again", fault.status, headers)
        if fault is not None and fault.kind == "unheard":
            return Response(_broken(b""))
        return None

    @app.after_request
    def after(response: Response) -> Response:
        fault = getattr(request, "fault", None)
        if fault is None or fault.kind in ("status", "unheard", "overtaken"):
            return response
        return _spoiled(response, fault)

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> Response:
        return error.response or Response(error.name, error.code)

    add_routes(app, hub)
    return app


def _spoiled(response: Response, fault: Fault) -> Response:
    """The right answer, as the fault lets it arrive."""
    if fault.kind == "lost":
        return Response(_broken(b""))
    body, headers = response.get_data(), dict(response.headers)
    if fault.kind == "half":
        return Response(_broken(body[: len(body) // 2]), response.status, headers | _length(len(body)))
    if fault.kind == "size":
        return Response(_broken(body), response.status, headers | _length(len(body) + 10))
    if fault.kind == "corrupt":
        body = body[:-1] + bytes([body[-1] ^ 1])
        return Response(body, response.status, headers)
    return Response(_trickle(body, fault.pause), response.status, headers | _length(len(body)))


def _length(length: int) -> dict[str, str]:
    return {"Content-Length": str(length)}


def _broken(body: bytes) -> Iterator[bytes]:
    if body:
        yield body
    raise ConnectionResetError


def _trickle(body: bytes, pause: float) -> Iterator[bytes]:
    piece = max(1, len(body) // 8)
    for start in range(0, len(body), piece):
        sleep(pause)
        yield body[start : start + piece]
