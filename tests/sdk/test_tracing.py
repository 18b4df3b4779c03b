"""Spans of real sessions, as a collector reads them that shares no code with pinring."""

import pytest
from rig.client import run
from rig.collector import Collector, attributes
from rig.deadline import eventually

pytestmark = pytest.mark.proxy


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.close()


def test_each_request_of_a_session_is_a_tree_that_names_its_replica(fleet, client, pinring, collector):
    proxy = pinring(fleet.three, extra=f'[tracing]\notlp = "{collector.url}"\n')
    sessions = run(client, "outlive", [proxy.url], meanwhile=lambda: None)

    def roots() -> dict:
        return {(span.trace_id, span.span_id): span for span in collector.spans("request")}

    def parts() -> list:
        return [part for name in ("route", "upstream wait", "first byte") for part in collector.spans(name)]

    def complete() -> bool:
        wanted = {(part.trace_id, part.parent_span_id) for part in parts()}
        return len(roots()) > 4 * len(sessions) and wanted <= set(roots())

    eventually("all spans", complete)
    for part in parts():
        root = roots()[part.trace_id, part.parent_span_id]
        assert root.start_time_unix_nano <= part.start_time_unix_nano <= part.end_time_unix_nano
        assert part.end_time_unix_nano <= root.end_time_unix_nano
    replicas: dict[str, set[str]] = {}
    for root in roots().values():
        told = attributes(root)
        if "pinring.session" in told:
            replicas.setdefault(told["pinring.session"], set()).add(told["pinring.backend"])
    assert len(replicas) == len(sessions)
    assert all(len(names) == 1 for names in replicas.values())
