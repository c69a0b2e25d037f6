"""The server under load, beside its own answer to a single client: make speed."""

import asyncio
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest

from apps.sentiment import data
from apps.sentiment.config import PRESETS
from apps.sentiment.train import train

pytestmark = pytest.mark.speed
REPOSITORY = Path(__file__).parent.parent
QUESTION = {"texts": ["Nobody in the room would have called the plot boring, but I found the direction really dull."]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address and process of a server of the default preset's network."""
    default = PRESETS["default"]
    config = replace(default, dataset="sample", limit=2000, training=replace(default.training, epochs=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("load"))
        folder = train(config, data.load(config)).absolute()
    command = [sys.executable, "-m", "apps.sentiment", "serve", "--run", str(folder), "--port", "0", "--queue", "32"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    yield re.search(r"http://\S+", process.stdout.readline())[0], process
    process.terminate()
    process.wait()


async def ask(url, clients, seconds):
    """Seconds of each answer, and how many answers had which status, of clients that ask again as soon as they have one."""
    times, statuses = [], {}
    async with httpx2.AsyncClient(timeout=30, limits=httpx2.Limits(max_connections=None)) as session:
        end = time.perf_counter() + seconds

        async def client():
            while time.perf_counter() < end:
                started = time.perf_counter()
                answer = await session.post(f"{url}/predict", json=QUESTION)
                statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
                if answer.status_code == 200:
                    times.append(time.perf_counter() - started)
                else:
                    await asyncio.sleep(0.1)

        await asyncio.gather(*(client() for _ in range(clients)))
    return np.array(times), statuses


def test_sixteen_clients_wait_less_than_if_they_were_answered_one_after_the_other(server):
    url, _ = server
    alone, _ = asyncio.run(ask(url, 1, 10))
    together, statuses = asyncio.run(ask(url, 16, 60))
    p95 = np.quantile(together, 0.95)
    print(
        f"alone {1000 * np.median(alone):.1f} ms ({len(alone) / 10:.0f} per second); 16 clients: median "
        f"{1000 * np.median(together):.1f} ms, 95 % {1000 * p95:.1f} ms ({len(together) / 60:.0f} per second)"
    )
    assert set(statuses) == {200}
    assert p95 < 16 * np.median(alone)


def test_two_hundred_clients_are_refused_rather_than_kept_waiting_and_memory_stays(server):
    url, process = server
    asyncio.run(ask(url, 200, 5))
    before = psutil.Process(process.pid).memory_info().rss
    times, statuses = asyncio.run(ask(url, 200, 30))
    grown = psutil.Process(process.pid).memory_info().rss / before
    print(f"200 clients: {statuses}, 95 % of the answers within {1000 * np.quantile(times, 0.95):.0f} ms, memory x {grown:.2f}")
    assert set(statuses) <= {200, 503}
    assert grown < 1.1
