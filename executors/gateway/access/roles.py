"""The role that each request needs: tables for the Flow's endpoints, HTTP paths and gRPC methods.

A request outside all tables needs `admin`, so nothing new is open by oversight.
"""

from __future__ import annotations

import re

from finetuner.contract import wire
from finetuner.workspace.tokens import Role

READ, WRITE, ADMIN = Role.READ, Role.WRITE, Role.ADMIN
HUB = "/v2/rpc/"
DOWNLOADS = "/v2/download/"
AUTHORIZE = f"{HUB}user.identity.proxiedAuthorize"

ENDPOINTS: dict[str, Role] = {
    **dict.fromkeys((wire.ANY, wire.ENCODE, wire.RANK, wire.SEARCH, wire.FILTER, wire.STATUS, wire.PROBLEMS), READ),
    **dict.fromkeys((wire.RUNS_GET, wire.RUNS_LIST, wire.RUNS_STATUS, wire.RUNS_LOGS), READ),
    **dict.fromkeys((wire.RUNS_METRICS, wire.RUNS_EXAMPLES, wire.EXPERIMENTS_LIST), READ),
    **dict.fromkeys((wire.RUNS_PAGE, wire.RUNS_CHANGES), READ),
    **dict.fromkeys((wire.DATASETS_LIST, wire.DATASETS_PULL, wire.DATASETS_SHOW, wire.DATASETS_STATS), READ),
    **dict.fromkeys((wire.ARTIFACTS_LIST, wire.ARTIFACTS_PULL, wire.ALIASES_LIST), READ),
    **dict.fromkeys((wire.FIT, wire.RUNS_CANCEL, wire.RUNS_RESUME, wire.RUNS_DELETE, wire.EVALUATE), WRITE),
    **dict.fromkeys((wire.RUNS_EDIT, wire.ARTIFACTS_EXPORT), WRITE),
    **dict.fromkeys((wire.EXPERIMENTS_CREATE, wire.EXPERIMENTS_DELETE), WRITE),
    **dict.fromkeys((wire.DATASETS_PUSH, wire.DATASETS_DELETE, wire.ARTIFACTS_PUSH, wire.ARTIFACTS_PROMOTE), WRITE),
    **dict.fromkeys((wire.INDEX, wire.DELETE, wire.REINDEX_CANCEL, wire.DATASETS_UPLOAD), WRITE),
    # Who may search may mark: marks come from searches, and nobody reads or trains on them without `write`.
    wire.FEEDBACK: READ,
    **dict.fromkeys((wire.FEEDBACK_LIST, wire.FEEDBACK_DELETE, wire.FEEDBACK_DOCUMENTS), WRITE),
    **dict.fromkeys((wire.INDEX_BACKUP, wire.INDEX_RESTORE, wire.INDEX_VERIFY, wire.INDEX_MOVE), ADMIN),
    **dict.fromkeys((wire.COLLECTIONS_DROP, wire.ROOM), ADMIN),
}

WITH_DOCUMENTS = {
    *(wire.ANY, wire.ENCODE, wire.RANK, wire.SEARCH, wire.INDEX, wire.DELETE, wire.DATASETS_PUSH, wire.ARTIFACTS_PUSH),
    wire.DATASETS_UPLOAD,
    wire.FEEDBACK,
}
WITHOUT_DOCUMENTS = ENDPOINTS.keys() - WITH_DOCUMENTS

# For POST. GET and HEAD need `read`, or `admin` for ADMIN_PAGES; every other method needs at least `write`. A POST to a
# path outside this table goes to an endpoint of the Flow.
PATHS: tuple[tuple[str, Role], ...] = (
    (r"/post", READ),  # the body names the endpoint, whose role is checked once the body has been read
    (r"/v1/(encode|search|embeddings|index/filter|feedback|runs/check)", READ),
    (r"/v1/(index|index/delete|evaluate(/queries)?|artifacts|feedback/list|feedback/delete)", WRITE),
    (r"/v1/uploads(/[^/]+(/(preview|complete))?)?", WRITE),
    (r"/v1/datasets/[^/]+(/(edit|split|index|sample))?", WRITE),
    (r"/v1/artifacts/[^/]+/(promote|exports/[^/]+)", WRITE),
    (r"/v1/feedback/rounds(/[^/]+/finish)?", WRITE),
    (r"/v1/tokens(/.*)?", ADMIN),
    (r"/v1/experiments/[^/]+/runs/[^/]+/(cancel|resume|edit|delete)", WRITE),
    (r"/api/v1/experiments(/.*)?", WRITE),
    (rf"{HUB}(user\.identity\.whoami|artifact\.(list|getDetail|getDownloadUrl)|executor\.getPackage)", READ),
    (rf"{HUB}artifact\.(upload|delete|update)", WRITE),
)

# Pages of administration, which `read` does not open.
ADMIN_PAGES = frozenset({"/v1/tokens", "/v1/audit", "/v1/rooms"})

# Open without a token: health checks, pages that hold no data, the hub's word on how to log in, and signed downloads.
OPEN_PAGES = frozenset({"/", "/docs", "/healthz", "/dry_run", AUTHORIZE})
OPEN_FOLDERS = ("/ui/", DOWNLOADS)
OPEN_SERVICES = ("/grpc.health.v1.Health/", "/jina.JinaGatewayDryRunRPC/")
# Each message of these methods names its own endpoint.
DATA_METHODS = frozenset({"/jina.JinaRPC/Call", "/jina.JinaSingleDataRequestRPC/process_single_data"})
READ_SERVICES = (
    "/jina.JinaInfoRPC/",
    "/jina.JinaDiscoverEndpointsRPC/",
    "/grpc.reflection.v1alpha.ServerReflection/",
)


def of_endpoint(endpoint: str) -> Role:
    """Return the role that an endpoint of the Flow needs, over either protocol."""
    return ENDPOINTS.get(endpoint, ADMIN)


def of_page(method: str, path: str) -> Role | None:
    """Return the role that an HTTP request needs, None for an open one."""
    if method in ("GET", "HEAD"):
        if path.rstrip("/") in ADMIN_PAGES:
            return ADMIN
        return None if path in OPEN_PAGES or path.startswith(OPEN_FOLDERS) else READ
    for pattern, role in PATHS:
        if re.fullmatch(pattern, path, re.DOTALL):
            return role if method == "POST" else max(role, WRITE)
    if method != "POST":
        return ADMIN
    for endpoint in (wire.ENCODE, wire.RANK):  # /encode/MODEL, see flow/clip_client.py
        if path.startswith(f"{endpoint}/"):
            return of_endpoint(endpoint)
    return of_endpoint(path)


def of_method(method: str) -> Role | None:
    """Return the role that a gRPC method needs, None for an open one.

    For DATA_METHODS it is the lowest role that a message may need.
    """
    if method.startswith(OPEN_SERVICES):
        return None
    return READ if method in DATA_METHODS or method.startswith(READ_SERVICES) else ADMIN
