"""The operator's environment: names, defaults, and what a wrong value is told."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from serve_app.messages import Locale
from serve_app.settings import Settings, SettingsError, service_url

HOME = {"HOME": "/home/op"}


def read(**env: str) -> Settings:
    return Settings.from_environment({**HOME, **env})


def test_defaults() -> None:
    settings = read()
    assert settings.state_dir == Path("/home/op/.local/state/serve_app")
    assert settings.database_url.get_secret_value() == "sqlite:////home/op/.local/state/serve_app/jobs.sqlite3"
    assert settings.artifacts_url == "/home/op/.local/state/serve_app/artifacts"
    assert settings.models_dir == Path("/home/op/.local/state/serve_app/models")
    assert settings.model_dump(exclude={"state_dir", "models_dir", "database_url", "artifacts_url"}) == {
        "check_folders": "on",
        "allowed_hosts": (),
        "media_root": None,
        "locale": Locale.KO,
        "webhook_secrets": (),
        "cors_origins": (),
        "auth": "auto",
        "hosts": (),
        "backend_url": None,
        "max_callback_result_bytes": None,
        "public_url": None,
        "hf_token": None,
        "caption_api_key": None,
        "music_api_key": None,
        "cookie_secrets": (),
        "cookie_secure": "auto",
        "model_mirror": None,
        "device": "auto",
        "stt_device": None,
        "stt_compute_type": None,
        "max_download_bytes": 4 * 1024**3,
        "download_timeout_s": 3600.0,
        "max_duration_s": 14400.0,
        "max_queued_jobs": 1000,
        "max_pieces_in_work": 3,
        "max_pieces_per_hour": 30,
        "retention_days": 7.0,
        "max_body_bytes": 1 << 20,
        "max_upload_bytes": 512 << 20,
        "max_image_bytes": 20 << 20,
        "max_image_pixels": 50_000_000,
        "unknown_names": (),
    }


def test_every_name_of_the_contract_is_read() -> None:
    settings = read(
        SERVE_APP_DATABASE_URL="postgresql+psycopg://app:pw@db/jobs",
        SERVE_APP_STATE_DIR="/var/lib/serve_app",
        SERVE_APP_ARTIFACTS_URL="s3://bucket/artifacts",
        SERVE_APP_ALLOWED_HOSTS="127.0.0.1, 10.0.0.0/8,Backend.Internal,",
        SERVE_APP_MEDIA_ROOT="/srv/media",
        SERVE_APP_LOCALE="en",
        SERVE_APP_WEBHOOK_SECRET="whsec_b25lb25lb25lb25lb25lb25l whsec_dHdvdHdvdHdvdHdvdHdvdHdv",
        SERVE_APP_CORS_ORIGINS="https://a.example,http://localhost:3000",
        BACKEND_URL="https://backend.example/",
        HF_TOKEN="hf_abc",
        SERVE_APP_MODEL_MIRROR="https://user:pw@mirror.example/models",
        DEVICE="cuda:1",
        STT_DEVICE="cpu",
        STT_COMPUTE_TYPE="int8_float16",
    )
    assert settings.database_url.get_secret_value() == "postgresql+psycopg://app:pw@db/jobs"
    assert settings.state_dir == Path("/var/lib/serve_app")
    assert settings.artifacts_url == "s3://bucket/artifacts"
    assert settings.allowed_hosts == ("127.0.0.1", "10.0.0.0/8", "Backend.Internal")
    assert settings.media_root == Path("/srv/media")
    assert settings.locale is Locale.EN
    assert settings.webhook_secret_values() == ("whsec_b25lb25lb25lb25lb25lb25l", "whsec_dHdvdHdvdHdvdHdvdHdvdHdv")
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    assert settings.backend_url == "https://backend.example"
    assert settings.hf_token is not None
    assert settings.hf_token.get_secret_value() == "hf_abc"
    assert settings.model_mirror is not None
    assert settings.model_mirror.get_secret_value() == "https://user:pw@mirror.example/models"
    assert (settings.device, settings.stt_device, settings.stt_compute_type) == ("cuda:1", "cpu", "int8_float16")
    assert settings.unknown_names == ()


def test_state_folder_follows_xdg() -> None:
    assert read(XDG_STATE_HOME="/xdg").state_dir == Path("/xdg/serve_app")
    # the specification: a relative path is invalid and must be ignored
    assert read(XDG_STATE_HOME="xdg").state_dir == Path("/home/op/.local/state/serve_app")


def test_chosen_state_folder_moves_what_lives_there() -> None:
    settings = read(SERVE_APP_STATE_DIR="/data")
    assert settings.database_url.get_secret_value() == "sqlite:////data/jobs.sqlite3"
    assert settings.artifacts_url == "/data/artifacts"
    assert settings.models_dir == Path("/data/models")
    assert read(SERVE_APP_STATE_DIR="/data", SERVE_APP_MODELS_DIR="/models").models_dir == Path("/models")


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/op")
    settings = read(SERVE_APP_STATE_DIR="~/state", SERVE_APP_MEDIA_ROOT="~/media")
    assert (settings.state_dir, settings.media_root) == (Path("/home/op/state"), Path("/home/op/media"))
    assert settings.artifacts_url == "/home/op/state/artifacts"


def test_set_to_nothing_is_not_set() -> None:
    blank = read(SERVE_APP_LOCALE="", BACKEND_URL=" ", SERVE_APP_MAX_QUEUED_JOBS="", HF_TOKEN="")
    assert blank == read()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SERVE_APP_LOCALE", "de", "'ko' or 'en'"),
        ("SERVE_APP_DATABASE_URL", "postgres://db/jobs", "postgresql+psycopg://"),
        ("SERVE_APP_STATE_DIR", "state", "absolute"),
        ("SERVE_APP_MODELS_DIR", "models", "absolute"),
        ("SERVE_APP_MEDIA_ROOT", "media", "absolute"),
        ("SERVE_APP_ALLOWED_HOSTS", "10.0.0.0/99", "'10.0.0.0/99' is neither a host name"),
        ("SERVE_APP_ALLOWED_HOSTS", "ok.example,http://bad", "'http://bad' is neither a host name"),
        ("SERVE_APP_ALLOWED_HOSTS", "backend:8000", "port"),
        ("SERVE_APP_WEBHOOK_SECRET", "whsec_not-base64", "whsec_ followed by base64"),
        ("SERVE_APP_WEBHOOK_SECRET", "whsec_YQ==", "at least 16"),
        ("SERVE_APP_WEBHOOK_SECRET", "whsec_b25lb25lb25lb25lb25lb25l b64", "secret 2"),
        ("SERVE_APP_CORS_ORIGINS", "https://a.example/path", "no path"),
        ("SERVE_APP_CORS_ORIGINS", "a.example", "is not an origin"),
        ("BACKEND_URL", "file:///etc", "http:// or https://"),
        ("BACKEND_URL", "https://user:pw@host", "user names, passwords"),
        ("SERVE_APP_MODEL_MIRROR", "models/mirror", "absolute path"),
        ("SERVE_APP_MODEL_MIRROR", "://host/models", "fsspec URL"),
        ("DEVICE", "tpu", "cuda:N"),
        ("STT_DEVICE", "cuda:x", "cuda:N"),
        ("STT_COMPUTE_TYPE", "int4", "int8_float16"),
        ("SERVE_APP_MAX_DOWNLOAD_BYTES", "0", "greater than or equal to 1"),
        ("SERVE_APP_MAX_DOWNLOAD_BYTES", "4GiB", "valid integer"),
        ("SERVE_APP_MAX_DURATION_S", "-1", "greater than 0"),
        ("SERVE_APP_MAX_DURATION_S", "nan", "finite"),
        ("SERVE_APP_DOWNLOAD_TIMEOUT_S", "soon", "valid number"),
        ("SERVE_APP_MAX_QUEUED_JOBS", "1.5", "valid integer"),
        ("SERVE_APP_RETENTION_DAYS", "0", "greater than 0"),
        ("SERVE_APP_MAX_BODY_BYTES", "10", "1024"),
        ("SERVE_APP_MAX_IMAGE_BYTES", "1023", "greater than or equal to 1024"),
        ("SERVE_APP_MAX_IMAGE_BYTES", "20MiB", "valid integer"),
        ("SERVE_APP_MAX_IMAGE_PIXELS", "0", "greater than or equal to 1"),
        ("SERVE_APP_MAX_IMAGE_PIXELS", "5e7", "valid integer"),
    ],
)
def test_wrong_value_names_variable_and_what_is_allowed(name: str, value: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{name: value})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{name}: ")
    assert told in line


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        read(SERVE_APP_LOCALE="de", DEVICE="tpu", SERVE_APP_RETENTION_DAYS="x")
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "SERVE_APP_LOCALE",
        "DEVICE",
        "SERVE_APP_RETENTION_DAYS",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVE_APP_DATABASE_URL", "mysql://app:hunter2@db"),
        ("SERVE_APP_WEBHOOK_SECRET", "hunter2"),
        ("BACKEND_URL", "https://user:hunter2@host"),
        ("SERVE_APP_MODEL_MIRROR", "user:hunter2@host"),
    ],
)
def test_error_does_not_repeat_a_secret(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{name: value})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_validation_error_does_not_show_a_secret_either() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(state_dir=Path("/s"), database_url="mysql://app:hunter2@db", artifacts_url="/a")  # type: ignore[arg-type]
    assert "database_url" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    settings = read(
        SERVE_APP_DATABASE_URL="postgresql+psycopg://app:hunter2@db/jobs",
        SERVE_APP_WEBHOOK_SECRET="whsec_aHVudGVyMmh1bnRlcjJodW50ZXIy",
        HF_TOKEN="hf_hunter2",
        SERVE_APP_MODEL_MIRROR="https://user:hunter2@host/models?sig=hunter2",
    )
    shown = f"{settings!r} {settings} {settings.model_dump_json()}"
    assert "hunter2" not in shown
    assert "aHVudGVyMg" not in shown
    assert "postgresql" not in shown


def test_misspelt_names_are_reported_with_the_nearest() -> None:
    settings = read(SERVE_APP_ALOWED_HOSTS="x", SERVE_APP_ZZZ="1", SERVE_APP_TEST_POSTGRES_URL="p", OTHER="1")
    assert settings.unknown_names == ("SERVE_APP_ALOWED_HOSTS", "SERVE_APP_ZZZ")
    assert settings.warnings() == (
        "SERVE_APP_ALOWED_HOSTS is not a setting and is ignored; did you mean SERVE_APP_ALLOWED_HOSTS?",
        "SERVE_APP_ZZZ is not a setting and is ignored",
    )


def test_travels_between_processes_whole() -> None:
    settings = read(
        SERVE_APP_WEBHOOK_SECRET="whsec_b25lb25lb25lb25lb25lb25l", HF_TOKEN="hf_abc", SERVE_APP_ALLOWED_HOSTS="a,b"
    )
    copy = pickle.loads(pickle.dumps(settings))
    assert copy == settings
    assert copy.webhook_secret_values() == ("whsec_b25lb25lb25lb25lb25lb25l",)


def test_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read().locale = Locale.EN  # type: ignore[misc]


def test_api_part_carries_what_the_http_layer_needs() -> None:
    api = read(
        SERVE_APP_LOCALE="en",
        SERVE_APP_CORS_ORIGINS="*",
        BACKEND_URL="http://b",
        SERVE_APP_MAX_BODY_BYTES="2048",
        SERVE_APP_MAX_UPLOAD_BYTES="4096",
        SERVE_APP_MAX_IMAGE_BYTES="2000",
    ).api
    assert (api.locale, api.cors_origins, api.backend_url) == (Locale.EN, ("*",), "http://b")
    assert (api.max_body_bytes, api.max_upload_bytes, api.max_image_bytes) == (2048, 4096, 2000)
    assert api.proxy_echoes_request_id


def test_limits_of_pictures() -> None:
    settings = read(SERVE_APP_MAX_IMAGE_BYTES="1024", SERVE_APP_MAX_IMAGE_PIXELS="1")
    assert (settings.max_image_bytes, settings.max_image_pixels, settings.unknown_names) == (1024, 1, ())


def test_retention_in_seconds() -> None:
    assert read(SERVE_APP_RETENTION_DAYS="0.5").retention_s == 43200


def test_reads_the_real_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_APP_LOCALE", "en")
    monkeypatch.setenv("SERVE_APP_STATE_DIR", "/data")
    settings = Settings.from_environment()
    assert (settings.locale, settings.state_dir) == (Locale.EN, Path("/data"))


def test_service_url_is_the_command_lines_alone() -> None:
    assert service_url({"SERVE_APP_URL": "http://gpu-box:9000"}) == "http://gpu-box:9000"
    assert service_url({"SERVE_APP_URL": " "}) == service_url({}) == "http://127.0.0.1:8000"
    assert read(SERVE_APP_URL="http://gpu-box:9000").unknown_names == ()


@pytest.mark.parametrize(
    ("auth", "hosts", "listens_on", "keys_on", "checked"),
    [
        ("", "", "127.0.0.1", False, ()),
        ("", "", "::1", False, ()),
        ("", "", "localhost", False, ()),
        ("", "app.example, 192.0.2.7", "127.0.0.1", False, ("app.example", "192.0.2.7")),
        ("", "", "0.0.0.0", True, None),
        ("", "", "::", True, None),
        ("", "app.example", "10.0.0.5", True, None),
        ("", "", "gpu-box", True, None),
        ("", "", None, True, None),  # not known: as if it were open
        ("on", "", "127.0.0.1", True, None),
        ("off", "", "0.0.0.0", False, None),
        ("off", "app.example", "0.0.0.0", False, ("app.example",)),
        ("off", "", None, False, None),
    ],
)
def test_keys_are_on_where_other_machines_reach_the_port(
    auth: str, hosts: str, listens_on: str | None, keys_on: bool, checked: tuple[str, ...] | None
) -> None:
    api = read(SERVE_APP_AUTH=auth, SERVE_APP_HOSTS=hosts).api_on(listens_on)
    assert (api.keys_on, api.hosts) == (keys_on, checked)


def test_names_of_the_server() -> None:
    assert read(SERVE_APP_HOSTS="App.Example., [2001:DB8::1]").hosts == ("app.example", "2001:db8::1")
    for wrong in ("https://app.example", "app.example:8000", "*", "a b", "app.example/x"):
        with pytest.raises(SettingsError, match="SERVE_APP_HOSTS"):
            read(SERVE_APP_HOSTS=wrong)


def test_the_clients_key_is_no_misspelt_setting() -> None:
    assert read(SERVE_APP_API_KEY="sa_x").warnings() == ()
