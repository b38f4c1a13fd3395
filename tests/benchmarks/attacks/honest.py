"""The honest caller: one text every 100 ms, with the seconds of each answer as a line.

A process of its own: threads of the attacks would make it wait for Python's lock.

    python honest.py http://127.0.0.1:51001 TOKEN
"""

import sys
import time

import httpx

TEXT = {"data": [{"text": "a red dress"}]}


def main(url: str, token: str) -> None:
    """Ask until the process is ended."""
    with httpx.Client(base_url=url, headers={"authorization": f"token {token}"}, timeout=120) as client:
        while True:
            started = time.perf_counter()
            answer = client.post("/encode", json=TEXT)
            assert "embedding" in answer.json()["data"][0], answer.text[:500]
            print(time.perf_counter() - started, flush=True)
            time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
