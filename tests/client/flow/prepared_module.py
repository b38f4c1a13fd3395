"""What a test of prepared processes runs: it says what it is."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    if "fail" in sys.argv:
        raise ValueError("as asked")
    if "refuse" in sys.argv:
        sys.exit("refused, as asked")
    if "kill" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    if "imported" in sys.argv:
        print("imported:", [name for name in sys.argv[1:] if name in sys.modules])
    if "stay" in sys.argv:
        print("stay", flush=True)
        time.sleep(600)
    atexit.register(print, "at exit")
    found = {
        "name": __name__,
        "arguments": sys.argv[1:],
        "given": os.environ["GIVEN"],
        "folder": str(Path.cwd()),
        "session": os.getsid(0),
        "pid": os.getpid(),
        "stdin": sys.stdin.read(),
        "method": multiprocessing.get_start_method(allow_none=True),
        "signals": [signal.getsignal(number) == signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGCHLD)],
    }
    print(json.dumps(found) + "\nend")
