"""`fathom serve` as a process of its own, and a reader of its streams that is as light as can be."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SAID = re.compile(rb'"content":"[^"]')
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Heard:
    """A stream as its reader heard it."""

    first: float = 0.0
    """Seconds until the first words."""
    end: float = 0.0
    pieces: int = 0
    whole: bool = False


class Server:
    """`fathom serve` as a process of its own."""

    def __init__(self, folder: Path, threads: int, weights: str | None) -> None:
        command = [sys.executable, "-m", "fathom", "serve", str(folder), "--port", "0", "--no-page"]
        command += ["--weights", weights] if weights else []
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert self.process.stderr
        line = self.process.stderr.readline()
        found = re.search(r"http://([0-9.]+):(\d+)", line)
        if not found:
            raise SystemExit(line + self.process.stderr.read())
        self.host, self.port = found[1], int(found[2])

    def close(self) -> None:
        """Stop it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def memory(self) -> float:
        """Megabytes in memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE / 2**20

    async def hear(self, body: bytes, begin: float) -> Heard:
        """Ask for a stream and read it to its end, as lightly as can be."""
        heard = Heard()
        reader, writer = await asyncio.open_connection(self.host, self.port)
        head = f"POST /chat/completions HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        rest = b""
        while data := await reader.read(1 << 16):
            said = len(SAID.findall(data))
            if said and not heard.pieces:
                heard.first = time.perf_counter() - begin
            heard.pieces += said
            rest = (rest + data)[-64:]
            if b"data: [DONE]" in rest:
                heard.whole = True
                break
        heard.end = time.perf_counter() - begin
        writer.close()
        return heard
