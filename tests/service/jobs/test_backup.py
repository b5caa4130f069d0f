"""A backup that is taken in the middle of an ingest job: restored, the job goes on where it was."""

from pathlib import Path

from index.local.backup import backup, restore
from tests.support.jobs import clips, encoded_pieces, ended, hold_encoder, start, until
from tests.support.serving import Serve

CLIPS = 40


def test_a_job_goes_on_in_a_restored_backup(serve: Serve, data_dir: Path, tmp_path: Path) -> None:
    clips(tmp_path / "lib", CLIPS)
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"], batch_audio_s=4.0) as own:
        waits, go = hold_encoder(own, after=3)
        job = start(own.client, "lib")
        assert waits.wait(60)
        until(own.client, job, lambda now: now["added"] > 0)
        report = backup(data_dir, tmp_path / "copy")
        go.set()
        assert ended(own.client, job)["added"] == CLIPS
    assert 0 < report.items < CLIPS
    restore(tmp_path / "copy", tmp_path / "new")
    with serve(data_dir=tmp_path / "new", ingest_roots=[tmp_path / "lib"]) as own:
        done = ended(own.client, job)
        assert (done["state"], done["total"], done["added"] + done["unchanged"]) == ("succeeded", CLIPS, CLIPS)
        assert own.client.get("/v1/collections/voices").json()["items"] == CLIPS
        assert encoded_pieces(own.client) == CLIPS - report.items, "what was in the backup is not embedded again"
