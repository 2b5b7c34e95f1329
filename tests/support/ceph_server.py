"""A real Ceph (one monitor, one OSD in memory, one RADOS gateway) on the loopback interface, for what rclone has not:

conditional writes, versions, Object Lock. From Debian's ceph-mon, ceph-osd and radosgw; no manager, no authentication
between the daemons.
"""

import json
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, free_port, wait_for_port

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
LOCKED = "models-locked"
GUEST_KEY = "guest-access-key"  # of a user who may do nothing with the buckets
DEADLINE = 180.0

_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon2}/0,v1:127.0.0.1:{mon1}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc secure
run dir = {folder}
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
keyring = {folder}/none
osd objectstore = memstore
memstore device bytes = 2147483648
osd data = {folder}/osd
mon data = {folder}/mon
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 2
osd pool default pgp num = 2
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw data = {folder}/rgw
rgw enable gc threads = false
rgw enable lc threads = false
"""


def missing_programs() -> list[str]:
    """What must be installed first (apt: ceph-mon ceph-osd radosgw)."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextmanager
def ceph_server(folder: Path) -> Generator[S3Server]:
    """Run Ceph until the block ends; `LOCKED` keeps versions and knows Object Lock, the usual bucket does neither."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    fsid, port = str(uuid.uuid4()), free_port()
    text = _CONFIGURATION.format(fsid=fsid, mon1=free_port(), mon2=free_port(), folder=folder, port=port)
    (folder / "ceph.conf").write_text(text)
    (folder / "none").write_text("")
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        _start(folder, daemons, fsid, port)
        _make_buckets(f"http://127.0.0.1:{port}")
        yield S3Server(f"http://127.0.0.1:{port}", folder)
    finally:
        for daemon in reversed(daemons):
            daemon.kill()  # nothing of it is to outlive the test
            daemon.wait(30)


def _start(folder: Path, daemons: list[subprocess.Popen[bytes]], fsid: str, port: int) -> None:
    configuration = ["-c", str(folder / "ceph.conf")]
    log = (folder / "daemons.log").open("ab")

    def daemon(*command: str) -> subprocess.Popen[bytes]:
        daemons.append(subprocess.Popen([command[0], *configuration, *command[1:], "-f"], stdout=log, stderr=log))
        return daemons[-1]

    def run(*command: str) -> str:
        result = subprocess.run(
            [command[0], *configuration, *command[1:]], capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        assert result.returncode == 0, f"{command}: {result.stderr}"
        return result.stdout

    monitors = next(line for line in (folder / "ceph.conf").read_text().splitlines() if line.startswith("mon host"))
    run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitors.split(" = ")[1], str(folder / "monmap"))
    run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"))
    daemon("ceph-mon", "-i", "a")
    ask = ["ceph", *configuration, "--connect-timeout", "5", "-s"]
    _wait(lambda: subprocess.run(ask, capture_output=True, check=False).returncode == 0)
    osd = str(uuid.uuid4())
    assert run("ceph", "osd", "new", osd).strip() == "0"
    run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
    daemon("ceph-osd", "-i", "0")
    _wait(lambda: json.loads(run("ceph", "osd", "stat", "-f", "json"))["num_up_osds"] == 1)
    gateway = daemon("radosgw", "-n", "client.rgw.a")
    wait_for_port(port, gateway, folder / "daemons.log", DEADLINE)
    for user, key in (("owner", ACCESS_KEY), ("guest", GUEST_KEY)):
        keys = ("--access-key", key, "--secret-key", SECRET_KEY)
        run("radosgw-admin", "user", "create", "--uid", user, "--display-name", user, *keys)


def _make_buckets(endpoint: str) -> None:
    from boto3.session import Session

    session = Session(aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name="us-east-1")
    client = session.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=BUCKET)
    client.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "Ceph did not come up"
        time.sleep(0.1)
