"""The same tests as an ordinary user, where the suite is run by root."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
UID = "54321"
FILES = ("test_attacks.py", "test_programs.py", "test_isolation.py", "test_user.py")

# Root's home is often closed to others and holds the interpreter. So in a mount namespace of its own each such folder
# gives way to an empty one, into which what is needed is bound again.
OPEN_UP = """
set -e
mount --make-rprivate /
kept=$1 python=$2 checkout=$3; shift 3
mkdir -p "$kept/python" "$kept/checkout"
mount --rbind "$python" "$kept/python"
mount --rbind "$checkout" "$kept/checkout"
for path in "$python" "$checkout"; do
    closed="" folder=$path
    while [ "$folder" != / ]; do
        setpriv --reuid="$U" --regid="$U" --clear-groups test -x "$folder" || closed=$folder
        folder=$(dirname "$folder")
    done
    if [ -n "$closed" ]; then
        mount -t tmpfs -o mode=0755 open "$closed"
        mkdir -p "$path"
    fi
done
for name in python checkout; do
    path=$python; [ $name = python ] || path=$checkout
    mountpoint -q "$path" || mount --rbind "$kept/$name" "$path"
done
cd "$checkout"
exec setpriv --reuid="$U" --regid="$U" --clear-groups "$@"
"""


def test_who_this_is() -> None:
    """Says in the inner run that it is the user that the outer one asked for."""
    assert os.getuid() == int(os.environ.get("ENGINE_SANDBOX_TEST_UID", os.getuid()))


@pytest.mark.skipif(os.getuid() != 0, reason="the suite is run by an ordinary user already")
def test_an_ordinary_user_is_as_safe(tmp_path: Path) -> None:
    for name in ("unshare", "setpriv", "mount"):
        if shutil.which(name) is None:
            pytest.skip(f"the program {name} (util-linux) is not here")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("root may not make a mount namespace here, in which the interpreter could be opened to a user")
    with tempfile.TemporaryDirectory(prefix="user-") as folder:
        os.chmod(folder, 0o777)
        done = rerun(folder, tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 100
    if missing := re.findall(r"tier '\w+' is not to be had here.*", done.stdout):
        pytest.skip(f"for an ordinary user {missing[0]}")


def rerun(folder: str, kept: Path) -> subprocess.CompletedProcess[str]:
    """The tests of FILES by a user to whom only `folder` belongs."""
    environment = {
        "PATH": os.environ["PATH"], "U": UID, "ENGINE_SANDBOX_TEST_UID": UID, "HOME": folder, "TMPDIR": folder,
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *[str(HERE / f) for f in FILES]]
    command = ["unshare", "--mount", "sh", "-c", OPEN_UP, "sh", str(kept), sys.base_prefix, str(ROOT), *pytest_command]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
