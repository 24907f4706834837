"""`fathom serve` in a process of its own, on a free port."""

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx

http = httpx.Client(timeout=60)
"""Patient, for the machine may be busy."""


@contextmanager
def server(model, *options, data=None):
    """Run `fathom serve` and give its process and its address."""
    command = [sys.executable, "-m", "fathom", "serve", str(model), "--port", "0", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FATHOM_DATA": str(data or model.parent / "data")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stderr.readline()
        found = re.search(r"http://[0-9.:]+", line)
        assert found, line + process.stderr.read()
        wait_for(found[0])
        yield process, found[0]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def wait_for(address):
    for _ in range(600):
        try:
            http.get(address + "/health")
            return
        except httpx.TransportError:
            time.sleep(0.05)
