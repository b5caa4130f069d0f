"""Damaged audio over HTTP, in every accepted format: 2xx or 4xx, no crash, no leak. Seeded, so that it repeats."""

import random
import struct
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.audio_files import FORMATS, encode, voice
from tests.support.http import PROBLEM
from tests.support.serving import Serve, Server

LIES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def mutant(data: bytes, generator: random.Random) -> bytes:
    """Cut, bits flipped (mostly in the header), a header field that lies, a stretch doubled or moved."""
    kind = generator.choice(("cut", "flip", "lie", "double", "zero", "splice"))
    changed = bytearray(data)
    at = int(generator.random() ** 3 * len(data))
    match kind:
        case "cut":
            return data[: max(1, int(generator.random() * len(data)))]
        case "flip":
            for _ in range(generator.randint(1, 12)):
                changed[int(generator.random() ** 3 * len(data))] ^= generator.randint(1, 255)
        case "lie":
            changed[at : at + 4] = struct.pack(generator.choice("<>") + "I", generator.choice(LIES))
        case "double":
            changed[at:at] = changed[at : at + generator.randint(1, 4000)]
        case "zero":
            length = generator.randint(1, 2000)
            changed[at : at + length] = bytes(length)
        case "splice":
            other = int(generator.random() * len(data))
            changed[at : at + 500] = changed[other : other + 500]
    return bytes(changed)


def attack(own: Server, count: int, seed: int) -> dict[int, int]:
    """Send `count` mutants, as files and in turn of every format; returns how often each status came."""
    generator = random.Random(seed)
    whole = {name: encode(voice(0.3, 16_000, 1 + (i % 2)), 16_000, name) for i, name in enumerate(sorted(FORMATS))}
    statuses: dict[int, int] = {}
    for number in range(count):
        name = sorted(FORMATS)[number % len(FORMATS)]
        data = mutant(whole[name], generator)
        answer: httpx.Response = own.client.post(
            "/v1/classify", files=[("files", ("clip", data))], data={"preset": "gender"}
        )
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (name, number, answer.text)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == PROBLEM
            assert answer.json()["code"], answer.text
    return statuses


def test_some_damaged_files(server: Server) -> None:
    statuses = attack(server, 4 * len(FORMATS), seed=1)
    assert set(statuses) <= {200, 413, 422}
    assert statuses[200] and statuses[422]
    assert server.client.get("/readyz").status_code == 200


@pytest.mark.slow
def test_two_thousand_damaged_files_leave_no_trace(serve: Serve, data_dir: Path) -> None:
    process = psutil.Process()
    with serve(data_dir=data_dir) as own:
        attack(own, 10 * len(FORMATS), seed=2)
        memory, files, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
        statuses = attack(own, 2100, seed=3)
        assert sum(statuses.values()) == 2100
        assert set(statuses) <= {200, 413, 422}
        assert process.memory_info().rss - memory < 48 * 1024 * 1024
        assert process.num_fds() - files <= 2
        assert process.num_threads() - threads <= 4
        assert own.client.get("/readyz").status_code == 200
