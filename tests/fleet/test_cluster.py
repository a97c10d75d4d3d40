"""A fleet on a local cluster of several processes says what its logs say one by one."""

from __future__ import annotations

import os

import pytest

from support.logs import needs

needs("dask", "distributed", "pandas", "pyarrow")
from dask.distributed import Client, LocalCluster  # noqa: E402

from iovabitmap import fleet  # noqa: E402
from support.fleets import LINK, MEMORY, assert_says, make_fleet  # noqa: E402

LOGS = 200


@pytest.fixture
def client():
    """Of two processes; no page that shows them, which would want a port of its own."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_two_processes_say_what_one_log_after_another_says(client, tmp_path):
    names = make_fleet(tmp_path, LOGS)
    broken = tmp_path / names[70]
    broken.write_bytes(broken.read_bytes()[:-1])
    machines = fleet.open(tmp_path, logs_per_task=3)
    assert machines.logs == names and len(machines) == LOGS

    frames = {
        "rates": machines.rates(),
        "working_sets": machines.working_sets(**MEMORY),
        "precopy": machines.precopy(**LINK, **MEMORY),
    }
    good = names[:70] + names[71:]
    assert_says(frames, tmp_path, good)
    for frame in frames.values():
        assert frame.index.tolist() == names
        assert frame.index[frame["error"] != ""].tolist() == [names[70]]

    def who(log):
        return {"pid": os.getpid()}

    workers = set(client.run(os.getpid).values())
    assert len(workers) == 2 and os.getpid() not in workers
    assert set(machines.map(who)["pid"].dropna()) == workers
