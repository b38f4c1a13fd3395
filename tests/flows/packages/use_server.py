"""The demo and a Flow from an installed wheel: argument is an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import finetuner
from finetuner.api.session import connection
from finetuner.flow.running_flow import RunningFlow
from finetuner.flow.settings import flow_file

os.chdir(sys.argv[1])
command = str(Path(sys.executable).with_name("finetuner"))
demo = subprocess.run(
    [command, "demo", "--items", "40", "--epochs", "1"], stdin=subprocess.DEVNULL, capture_output=True, text=True
)
assert demo.returncode == 0, demo.stdout + demo.stderr
shown = subprocess.run([command, "flow", "show", "encode"], capture_output=True, text=True, check=True).stdout
Path("mine.yml").write_text(shown.replace("name: encode", "name: mine"))
with RunningFlow("workspace", flow=Path("mine.yml")) as flow:
    finetuner.login(host=flow.host, force=True)
    (text,) = connection().post("/encode", finetuner.DocumentArray([finetuner.Document(text="a red dress")]))
print(
    json.dumps(
        {
            "package": str(Path(finetuner.__file__).parent),
            "flow": str(flow_file()),
            "report": Path("demo/report.html").is_file(),
            "metrics": sorted(json.loads(Path("demo/summary.json").read_text())["metrics"]),
            "shape": list(text.embedding.shape),
            "mine": "name: mine" in Path("mine.yml").read_text(),
        }
    )
)
