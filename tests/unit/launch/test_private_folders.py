"""Another local user can neither read nor replace what a cluster leaves on the disk; two users need root."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.errors import InvalidRequest
from serve_app.launch.private_folders import close_to_others, cluster_folder, private_folder, write_private

PROJECT = Path(__file__).parents[3]
VICTIM, OTHER = 1000, 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="plays two users")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder as /tmp is."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def as_user(user: int, code: str) -> str:
    command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    return done.stdout.strip() or done.stderr.strip()[-500:]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@needs_root
def test_another_user_can_not_replace_the_token(shared: Path) -> None:
    """Ray makes its own folder 0777: the token lies beside it, in a folder that nobody else may enter."""
    start = f"""
import os
from pathlib import Path
os.umask(0o077)
from serve_app.launch.private_folders import cluster_folder, private_folder, write_private
state = private_folder(Path({str(shared)!r}) / "state", "The state folder")
folder = cluster_folder(state, 8000)
if not (folder / "auth_token").exists():
    write_private(folder / "auth_token", "the victim's")
print(folder)
"""
    rays = """
from ray._common.utils import try_to_create_directory
try_to_create_directory(str(folder / "r"))
"""
    folder = Path(as_user(VICTIM, start + rays))
    assert mode(folder / "r") == 0o777  # the reason for a folder around it
    assert (mode(folder), mode(folder / "auth_token")) == (0o700, 0o600)
    attack = f"""
import os
for action in (os.listdir, os.unlink, lambda path: open(path).read()):
    try:
        action({str(folder / "auth_token")!r})
        print("done")
    except OSError as error:
        pass
try:
    os.rename({str(folder)!r}, {str(folder) + "-moved"!r})
    print("done")
except OSError:
    print("refused")
"""
    assert as_user(OTHER, attack) == "refused"
    assert as_user(VICTIM, start) == str(folder)
    assert (folder / "auth_token").read_text() == "the victim's"
    shutil.rmtree(folder)


@needs_root
def test_a_folder_of_another_user_is_refused(shared: Path) -> None:
    (shared / "theirs").mkdir(mode=0o700)
    os.chown(shared / "theirs", OTHER, OTHER)
    with pytest.raises(InvalidRequest, match="belongs to another user"):
        private_folder(shared / "theirs", "The state folder")
    with pytest.raises(InvalidRequest, match=r"lies in .* belongs to another user"):
        private_folder(shared / "theirs" / "state", "The state folder")
    # the operator of a container knows better
    folder = private_folder(shared / "theirs" / "state", "The state folder", checked=False)
    assert folder.is_dir()


def test_a_link_or_a_file_is_refused(shared: Path) -> None:
    (shared / "real").mkdir(mode=0o700)
    (shared / "link").symlink_to(shared / "real")
    (shared / "file").touch()
    with pytest.raises(InvalidRequest, match="is a link"):
        private_folder(shared / "link", "The state folder")
    with pytest.raises(InvalidRequest, match="can't be made"):
        private_folder(shared / "file", "The state folder")


@pytest.mark.parametrize("open_to", [0o777, 0o702, 0o1777])
def test_a_folder_that_others_may_write_is_refused(shared: Path, open_to: int) -> None:
    (shared / "open").mkdir()
    (shared / "open").chmod(open_to)
    with pytest.raises(InvalidRequest, match="can be written by other users"):
        private_folder(shared / "open", "The state folder")
    if not open_to & stat.S_ISVTX:
        with pytest.raises(InvalidRequest, match="where other users can replace it"):
            private_folder(shared / "open" / "state", "The state folder")


def test_a_folder_that_others_could_read_is_closed(shared: Path) -> None:
    (shared / "state").mkdir(mode=0o755)
    assert private_folder(shared / "state", "The state folder") == shared / "state"
    assert mode(shared / "state") == 0o700
    assert private_folder(shared / "new" / "state", "The state folder") == shared / "new" / "state"


def test_files_of_earlier_versions_are_closed(tmp_path: Path) -> None:
    old = (
        "jobs.sqlite3",
        "jobs.sqlite3-wal",
        "jobs.sqlite3-shm",
        "artifacts/jobs/1/media",
        "incoming/part",
        "models/m",
    )
    for name in old:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "elsewhere").touch()
    for path in tmp_path.rglob("*"):  # whatever the umask is
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "models" / "link").symlink_to(tmp_path / "elsewhere")
    assert close_to_others(tmp_path) == len(old) + 5
    assert {mode(tmp_path / name) & 0o077 for name in (*old, "artifacts", "artifacts/jobs", "models")} == {0}
    assert {mode(tmp_path / name) for name in ("notes.txt", "elsewhere")} == {0o644}
    assert close_to_others(tmp_path) == 0


def test_clusters_have_folders_of_their_own_with_random_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = private_folder(tmp_path / "state", "The state folder")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    first, second = cluster_folder(state, 8000), cluster_folder(state, 8001)
    assert first != second
    assert cluster_folder(state, 8000) == first == (state / "run" / "8000").resolve()
    assert "8000" not in first.name
    first.rmdir()  # as at a restart of the machine
    again = cluster_folder(state, 8000)
    assert again.is_dir()
    assert again not in (first, second)


def test_a_private_file_replaces_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "token").symlink_to(tmp_path / "target")
    write_private(tmp_path / "token", "new")
    assert (tmp_path / "target").read_text() == "old"
    assert ((tmp_path / "token").read_text(), mode(tmp_path / "token")) == ("new", 0o600)


def test_every_process_of_a_cluster_makes_private_files(tmp_path: Path) -> None:
    """`launch` puts this folder on PYTHONPATH; Python runs the module in it as each process starts."""
    site = PROJECT / "serve_app" / "launch" / "ray_site"
    code = f"open({str(tmp_path / 'file')!r}, 'w'); import os; os.mkdir({str(tmp_path / 'folder')!r})"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(site)}, umask=0o022)
    assert (mode(tmp_path / "file"), mode(tmp_path / "folder")) == (0o600, 0o700)
