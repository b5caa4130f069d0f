"""A flood: who is turned away at the door is told so in full and keeps the connection, who was let in is answered."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import httpx

from tests.support.http import refused
from tests.support.serving import Serve, Server

PATIENCE = 20.0


@contextmanager
def one_under_way(own: Server) -> Iterator[None]:
    """A request whose body does not come: it has a place until it hangs up."""
    url = httpx.URL(own.url)
    with socket.create_connection((url.host, url.port)) as caller:
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: application/json\r\n"
        caller.sendall(f"{head}Content-Length: 100\r\n\r\n".encode())
        while own.client.get("/metrics").text.partition("\nclsp_requests_in_flight ")[2][:3] != "2.0":
            pass
        yield


def counted(own: Server, series: str) -> float:
    return float(own.client.get("/metrics").text.partition(f"{series} ")[2].partition("\n")[0] or 0)


def test_of_a_flood_all_are_answered_and_health_is(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, max_requests=4) as own, ThreadPoolExecutor(32) as pool:
        before = counted(own, 'clsp_problems_total{type="overloaded"}')
        flood = [pool.submit(own.client.post, "/v1/embeddings", json={"input": f"voice {n}"}) for n in range(200)]
        assert own.client.get("/healthz").status_code == 200
        answers = [one.result(PATIENCE) for one in flood]
        assert {answer.status_code for answer in answers} == {200, 503}
        for answer in answers:
            if answer.status_code == 503:
                problem = refused(answer, 503, "overloaded")
                assert problem["limit"] == 4
                assert problem["message"] == problem["detail"], "what OpenAI's clients show"
                assert answer.headers["retry-after"] == "1"
                assert answer.headers["x-content-type-options"] == "nosniff"
            else:
                assert len(answer.json()["data"]) == 1
        turned_away = sum(answer.status_code == 503 for answer in answers)
        assert counted(own, 'clsp_problems_total{type="overloaded"}') - before == turned_away


def test_the_connection_of_a_refused_request_works_for_the_next(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, max_requests=1) as own:
        caller = HTTPConnection("127.0.0.1", httpx.URL(own.url).port, timeout=PATIENCE)
        with one_under_way(own):
            for size in (10, 300_000):
                body = json.dumps({"input": "x" * size})
                headers = {"Content-Type": "application/json", "X-Request-ID": f"mine-{size}"}
                caller.request("POST", "/v1/embeddings", body, headers)
                answer = caller.getresponse()
                assert answer.status == 503
                assert json.loads(answer.read())["request_id"] == answer.headers["x-request-id"] == f"mine-{size}"
        kept = caller.sock
        assert kept is not None
        status = 503
        while status == 503:
            caller.request("POST", "/v1/embeddings", '{"input": "x"}', {"Content-Type": "application/json"})
            answer = caller.getresponse()
            answer.read()
            status = answer.status
        assert status == 200
        assert caller.sock is kept
        caller.close()


def test_a_page_that_may_call_can_read_its_refusal(serve: Serve, data_dir: Path) -> None:
    page = "https://page.example"
    with serve(data_dir=data_dir, max_requests=1, cors_origins=[page]) as own, one_under_way(own):
        answer = own.client.post("/v1/embeddings", json={"input": "x"}, headers={"Origin": page})
        refused(answer, 503, "overloaded")
        assert answer.headers["access-control-allow-origin"] == page


def test_a_service_that_is_behind_lets_in_no_more_than_a_batch(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, max_lag_s=1e-9, batch_texts=1) as own:
        own.client.post("/v1/embeddings", json={"input": "x"}).raise_for_status()
        with one_under_way(own):
            # The loop may have been in time for its last appointment; it won't be for all of them.
            answers = (own.client.get("/v1/models") for _ in range(1000))
            turned_away = next(one for one in answers if one.status_code == 503)
            assert own.client.get("/readyz").status_code == 200
        problem = refused(turned_away, 503, "overloaded")
        assert "looked at" in problem["detail"]
