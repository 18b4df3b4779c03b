"""The metrics as Prometheus' own library reads them: it refuses what OpenMetrics does not allow."""

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from rig.client import SESSIONS, run

pytestmark = pytest.mark.proxy


def scrape(proxy) -> dict[str, list]:
    with httpx.Client(transport=httpx.HTTPTransport(uds=f"{proxy.file}.sock")) as client:
        answer = client.get("http://pinring/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    return {family.name: family.samples for family in text_string_to_metric_families(answer.text)}


def total(samples, **labels) -> float:
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def test_real_sessions_are_counted_as_they_are(fleet, client, pinring):
    proxy = pinring(fleet.three)
    sessions = run(client, "counters", [proxy.url])
    assert len(sessions) == SESSIONS
    told = scrape(proxy)
    assert total(told["pinring_sessions_opened"]) == SESSIONS
    assert total(told["pinring_sessions_lost"]) == 0
    assert total(told["pinring_refusals"]) == 0
    for name in {session["where"] for session in sessions}:
        assert total(told["pinring_requests"], backend=name, route="pinned") > 0
    assert total(told["pinring_backend_state"], state="open") == 3
