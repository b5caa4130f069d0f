"""The Ray Data job on one machine: all shards, within the endpoint's limits, resumed without paying twice."""

from pathlib import Path

import pytest

from tests.support.captions_server import serving
from tests.training.captions.test_annotate import job
from training.captions.endpoint import EndpointStoppedError
from training.captions.formats import read_rows

ray = pytest.importorskip("ray", reason="the Ray job needs the scale extra")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_job_over_workers(manifest: Path, tmp_path: Path, quick, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.captions import ray_job

    out = tmp_path / "out"
    with serving(delay_s=0.02) as server:
        server.behave = lambda asked: "401" if len(server.asked) > 15 else None
        task = job(quick(server.url, concurrency=4, api_key="from-the-driver"))
        with pytest.raises(EndpointStoppedError, match="401"):
            ray_job.run(task, manifest, out, workers=2, shards=6, cpus=0.5)
        server.behave = lambda asked: None
        seen: list[tuple[int, int]] = []
        report = ray_job.run(
            task, manifest, out, workers=2, shards=6, cpus=0.5, tick=lambda done, of: seen.append((done, of))
        )
    assert report.clips == 12
    assert sum(report.kept.values()) == 36
    assert seen[-1] == (6, 6)
    assert server.busiest <= 4
    assert set(server.paid.values()) == {1}
    assert len(server.paid) == 36
    rows = [row for number in range(6) for row in read_rows(out / f"part-{number:05d}.jsonl")]
    assert sorted(row["id"] for row in rows) == [f"clip{i:02d}" for i in range(12)]
    # The driver's key is not what workers send: theirs comes from their own environment.
    assert {asked.authorization for asked in server.asked} == {""}
