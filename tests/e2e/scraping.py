"""Reading the running stack's metrics, as Prometheus does and by Prometheus."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from shared.state import keys
from tests.e2e.processes import Process
from tests.e2e.stack import ROOT, Stack
from tests.e2e.talk import eventually
from tests.prometheus import RULES, program
from tests.redis_server import free_port

Samples = dict[str, list[tuple[dict[str, str], float]]]  #: labels and value, by the sample's name
NOT_WORKERS = {"simulator", "more", "ingress", "flower"}


async def worker_addresses(stack: Stack) -> dict[str, str]:
    """Where each worker shows its metrics, as `clawdbot metrics --json` tells Prometheus."""

    async def have_told() -> bool:
        return stack.redis.hlen(keys.WORKERS) == len(stack.processes.keys() - NOT_WORKERS)

    await eventually(have_told, 20, "every worker tells of itself")
    done = await asyncio.to_thread(stack.clawdbot, "metrics", "--json")
    assert done.returncode == 0, done.stderr
    targets: list[dict[str, Any]] = json.loads(done.stdout)
    return {target["labels"]["worker"]: target["targets"][0] for target in targets}


def scrape(address: str) -> Samples:
    """One /metrics."""
    found: Samples = {}
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(seen: Iterable[Samples], name: str, **labels: str) -> float:
    """The sum of the samples that have these labels."""
    return sum(
        value
        for samples in seen
        for given, value in samples.get(name, [])
        if labels.items() <= given.items()
    )


class Prometheus:
    """A real one: the example's configuration with the stack's addresses, and in a hurry."""

    def __init__(self, directory: Path, targets: dict[str, list[str]]) -> None:
        """targets: addresses by job."""
        config = yaml.safe_load((ROOT / "compose/prometheus.yml").read_text("utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(RULES)]
        for job in config["scrape_configs"]:
            del job["dns_sd_configs"]
            job["static_configs"] = [{"targets": targets[job["job_name"]]}]
        file = directory / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        self._url = f"http://127.0.0.1:{free_port()}/api/v1"
        listen = self._url.removeprefix("http://").removesuffix("/api/v1")
        command = [
            *(program("prometheus"), f"--config.file={file}", f"--web.listen-address={listen}"),
            *(f"--storage.tsdb.path={directory / 'data'}", "--log.level=warn"),
        ]
        self.process = Process("prometheus", command, directory=directory, environment={})

    def __enter__(self) -> Prometheus:
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.end()

    def ask(self, what: str, **arguments: str) -> Any:
        """The data of an answer of its API; None while it does not answer."""
        url = f"{self._url}/{what}?{urllib.parse.urlencode(arguments)}"
        with suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]
        return None

    def health(self) -> list[tuple[str, str]]:
        """Job and health of every target."""
        found = self.ask("targets", state="active") or {"activeTargets": []}
        return sorted((t["labels"]["job"], t["health"]) for t in found["activeTargets"])

    def firing(self, alert: str) -> list[dict[str, str]]:
        """The labels of the alerts of that name that fire."""
        found = self.ask("alerts")["alerts"]
        return [
            each["labels"]
            for each in found
            if each["labels"]["alertname"] == alert and each["state"] == "firing"
        ]

    def has_answer(self, query: str) -> bool:
        return bool(self.ask("query", query=query)["result"])
