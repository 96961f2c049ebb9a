"""Live sessions: a WebSocket that brings recorded chunks and takes maps, and the worker process behind each."""

import asyncio
import contextlib
import json
import os
import struct
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from stavis.app.jobs import kill, start
from stavis.app.predictor import DEFAULT_LOOK_AHEAD, MAX_LOOK_AHEAD
from stavis.app.settings import AppSettings

START_SECONDS = 10.0  # in which a client must say what it will send
IDLE_SECONDS = 60.0  # without a message
SEND_SECONDS = 10.0  # a client that reads nothing
MAX_HOURS = 4.0


class LiveRequest(BaseModel):
    """First message of a session."""

    model_config = ConfigDict(extra="forbid")

    container: Literal["video/webm", "video/x-matroska", "video/mp4"]
    look_ahead: int = Field(DEFAULT_LOOK_AHEAD, ge=0, le=MAX_LOOK_AHEAD)
    hears: bool = True


class LiveSessions:
    def __init__(self, settings: AppSettings) -> None:
        self.settings = settings
        self._sessions: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        for task in self._sessions:
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def serve(self, socket: WebSocket) -> None:
        await socket.accept()
        if len(self._sessions) >= self.settings.max_live:
            await _end(socket, f"{len(self._sessions)} live sessions run already, the most that are allowed")
            return
        # A task of its own, so that it can be cancelled when the server stops.
        task = asyncio.create_task(self._serve(socket))
        self._sessions.add(task)
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            self._sessions.discard(task)

    async def _serve(self, socket: WebSocket) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                request = LiveRequest.model_validate_json(await socket.receive_text())
        except (ValidationError, KeyError):
            return await _end(socket, "the first message is not a valid request")
        except (TimeoutError, WebSocketDisconnect):
            return await _end(socket, "no request came")
        environment = os.environ | {"OMP_WAIT_POLICY": "passive"}  # cores are shared with the browser
        process = await start("stavis.app.live_worker", stderr=asyncio.subprocess.DEVNULL, env=environment)
        try:
            _write(process, b"S", json.dumps(request.model_dump() | self.settings.of_worker).encode())
            both = [
                asyncio.create_task(_from_client(socket, process)),
                asyncio.create_task(_from_worker(socket, process)),
            ]
            try:
                async with asyncio.timeout(MAX_HOURS * 3600):
                    done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                error = next((text for task in done if (text := task.result())), None)
            finally:
                for task in both:
                    task.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except TimeoutError:
            error = f"ended after {MAX_HOURS:g} hours"
        finally:
            kill(process)
            await process.wait()
        await _end(socket, error)


async def _from_client(socket: WebSocket, process: asyncio.subprocess.Process) -> str | None:
    """Passes a client's messages on; returns why the session ends, None if the client ended it."""
    assert process.stdin is not None
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await socket.receive()
        except TimeoutError:
            return f"no pictures came for {IDLE_SECONDS:.0f} seconds"
        if message["type"] == "websocket.disconnect":
            return None
        data, text = message.get("bytes"), message.get("text")
        _write(process, b"C" if data is None else b"D", (text or "").encode() if data is None else data)
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await process.stdin.drain()
        except (TimeoutError, ConnectionError):
            return "the worker process has stopped reading"


async def _from_worker(socket: WebSocket, process: asyncio.subprocess.Process) -> str | None:
    """Passes maps on, the newest only where the client is slow; returns why the session ends."""
    assert process.stdout is not None
    newest: list[bytes] = []
    there = asyncio.Event()

    async def send() -> None:
        while True:
            await there.wait()
            there.clear()
            waiting, newest[:] = newest[:], []
            for message in waiting:
                async with asyncio.timeout(SEND_SECONDS):
                    await socket.send_bytes(message)

    sender = asyncio.create_task(send())
    try:
        while not sender.done():
            (size,) = struct.unpack("<I", await process.stdout.readexactly(4))
            message = await process.stdout.readexactly(size)
            (num,) = struct.unpack_from("<I", message)
            header = json.loads(message[4 : 4 + num])
            if header["type"] == "error":
                return str(header["error"])
            if header["type"] == "map":
                newest[:] = [message]
            else:
                newest.append(message)
            there.set()
        return "the client does not read"
    except asyncio.IncompleteReadError:
        return "the worker process ended: the pictures cannot be decoded, or memory ran out"
    finally:
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)


def _write(process: asyncio.subprocess.Process, kind: bytes, data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(struct.pack("<I", 1 + len(data)) + kind + data)


async def _end(socket: WebSocket, error: str | None) -> None:
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError, TimeoutError):
        async with asyncio.timeout(SEND_SECONDS):
            if error is not None:
                await socket.send_text(json.dumps({"type": "error", "error": error}))
            await socket.close()
