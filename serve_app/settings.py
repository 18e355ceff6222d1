"""`Settings`: the operator's environment, read once and frozen. No other module reads `os.environ`.

An empty variable counts as not set. Secrets are `SecretStr`, so that no log or repr shows them.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from serve_app.api.http.browsers import is_loopback
from serve_app.api.http.options import ApiSettings
from serve_app.api.video.requests import CallbackBase
from serve_app.jobs.webhook import parse_secrets
from serve_app.media.address_policy import AddressPolicy
from serve_app.messages import Locale

_PREFIX = "SERVE_APP_"
_TEST_PREFIX = "SERVE_APP_TEST_"  # read by the test suite itself
_SERVICE_URL = "SERVE_APP_URL"  # read by the command line, which is a client
_SERVICE_KEY = "SERVE_APP_API_KEY"  # read by `client`
_UNPREFIXED = ("BACKEND_URL", "HF_TOKEN", "DEVICE", "STT_DEVICE", "STT_COMPUTE_TYPE")  # kept from the systems replaced

_MIN_COOKIE_SECRET_CHARS = 32

# of CTranslate2, which took this name first: https://opennmt.net/CTranslate2/quantization.html
_COMPUTE_TYPES = "default|auto|int8|int8_float32|int8_float16|int8_bfloat16|int16|float16|bfloat16|float32"


class SettingsError(ValueError):
    """Raised when the environment can't be used; names every wrong variable and its allowed values."""


def _split_commas(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _split_spaces(value: Any) -> Any:
    return tuple(value.split()) if isinstance(value, str) else value


def _check_host(text: str) -> str:
    AddressPolicy((text,))  # raises ValueError, here rather than in the first replica
    return text


def _check_origin(text: str) -> str:
    parts = urlsplit(text)
    if text != "*" and (parts.scheme not in ("http", "https") or text != f"{parts.scheme}://{parts.netloc}"):
        raise ValueError(f"{text!r} is not an origin; write e.g. https://app.example (no path), or * for any")
    return text


def _check_name(text: str) -> str:
    """Return a host name or an address as `Host` has it, without its port."""
    name = text.lower().removesuffix(".")
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        if not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?", name):
            raise ValueError(f"{text!r} is no host name; write e.g. app.example or 192.0.2.7, without a port") from None
        return name


def _check_webhook_secrets(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    parse_secrets(" ".join(secret.get_secret_value() for secret in secrets))  # raises ValueError, which shows none
    return secrets


def _form(pattern: str, wanted: str) -> AfterValidator:
    """Return a check of a text, or of a secret, which its error does not show."""

    def check(value: Any) -> Any:
        if not re.fullmatch(pattern, value.get_secret_value() if isinstance(value, SecretStr) else value, re.DOTALL):
            raise ValueError(f"write {wanted}")
        return value

    return AfterValidator(check)


def _check_absolute(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_absolute():
        raise ValueError("write an absolute path: replicas have other working folders than this shell")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_check_absolute)]
Device = Annotated[str, _form(r"auto|cpu|mps|cuda(:\d+)?", "auto, cpu, mps, cuda, or cuda:N")]
ComputeType = Annotated[str, _form(_COMPUTE_TYPES, f"one of {_COMPUTE_TYPES.replace('|', ', ')}")]
DatabaseUrl = Annotated[
    SecretStr,
    _form(
        r"sqlite(\+pysqlite)?:///.+|postgresql\+psycopg://.+",
        "sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE",
    ),
]
Mirror = Annotated[
    SecretStr,
    _form(r"[A-Za-z][A-Za-z0-9_+.-]*://.+|[/~].*", "a URL (https://…, s3://…, any fsspec URL) or an absolute path"),
]


class Settings(BaseModel):
    """Everything that an operator can choose by environment; `configs/*.yaml` hold the numbers of the deployments.

    Attributes:
        state_dir: folder of the default job store, the default artefact store and files that are being fetched.
        check_folders: whether `serve-app run` refuses a state or cluster folder that other users of the machine could
            replace or write to; `off`: for a container with a mounted volume, which no other user enters.
        models_dir: folder of fetched and converted models.
        database_url: job store: `sqlite:///FILE`, or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE` for a cluster.
        artifacts_url: folder or fsspec URL (`s3://bucket/prefix`, `gs://…`) where a job's files lie until the job ends,
            and pieces of music as long as their jobs are kept. It must belong to this service alone: what no job owns
            is removed.
        allowed_hosts: hosts, addresses and networks, separated by commas, that fetches and callbacks may reach
            although they are private.
        media_root: folder from which local paths may be read.
        locale: language of all that callers read.
        webhook_secrets: `whsec_<base64>`; callbacks are unsigned without one. Several, separated by spaces, all sign:
            receivers can move from one to the next.
        cors_origins: origins whose pages may call the API, separated by commas, or `*`.
        auth: whether callers need an API key: `on`, `off`, or `auto`: where the HTTP port is open to other machines
            (`http_options.host` is no loopback address). `serve-app keys create` makes keys.
        hosts: names of this server, separated by commas and without ports, which requests may name in `Host` where
            callers need no key. Loopback names always count. None: these alone on a loopback address, any elsewhere.
        backend_url: callback base of a job that names none.
        max_callback_result_bytes: the callback of a longer result carries `result_url` instead of `result`. None: every
            callback carries its result, as the contract has it.
        public_url: address of this service for receivers, which `result_url` begins with; None: that is a path.
        hf_token: opens gated models on the Hugging Face hub.
        caption_api_key: opens the endpoint that describes pictures (`args.captions.chat`).
        music_api_key: opens ACE-Step's server (`args.music.acestep`).
        cookie_secrets: sign visitors' cookies; at least 32 characters. Several, separated by spaces, while one replaces
            another: the first signs, all are accepted. None: a random one in the job store, which all replicas share.
        cookie_secure: whether browsers send visitors' cookies over HTTPS only; `auto`: where the page came by HTTPS.
        model_mirror: URL or folder from which models of the catalog may be fetched too.
        device: where models run unless their `args` say so; `auto`: a GPU where the deployment was given one (in Python
            and on the command line: where there is one), else the CPU.
        stt_device: where Whisper runs; None: on `device`.
        stt_compute_type: Whisper's number format; None: the backend's choice.
        max_download_bytes: limit of a fetched file.
        download_timeout_s: limit of the whole fetch of one file.
        max_duration_s: limit of a decoded file; the samples of 4 hours take 0.9 GB. Drums are read in pieces and may
            last 24 hours.
        max_queued_jobs: limit of waiting jobs; a submission above it is answered 429.
        max_pieces_in_work: pieces of music of one visitor that may wait or be in work; more are answered 429.
        max_pieces_per_hour: pieces of music that one visitor may order within an hour; more are answered 429.
        retention_days: how long ended jobs are kept.
        max_body_bytes: limit of a JSON request.
        max_upload_bytes: limit of an uploaded form.
        max_image_bytes: limit of a picture, uploaded or fetched.
        max_image_pixels: limit of a picture's width × height, half as many for a transparent or a 16-bit picture.
            Decoding a picture may take 10 bytes for each pixel of it: 500 MB.
        unknown_names: SERVE_APP_* variables that mean nothing here: misspelt, most likely.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    state_dir: AbsolutePath
    check_folders: Literal["on", "off"] = "on"
    models_dir: AbsolutePath
    database_url: DatabaseUrl
    artifacts_url: str
    allowed_hosts: Annotated[
        tuple[Annotated[str, AfterValidator(_check_host)], ...], BeforeValidator(_split_commas)
    ] = ()
    media_root: AbsolutePath | None = None
    locale: Locale = Locale.KO
    webhook_secrets: Annotated[
        tuple[SecretStr, ...], BeforeValidator(_split_spaces), AfterValidator(_check_webhook_secrets)
    ] = ()
    cors_origins: Annotated[
        tuple[Annotated[str, AfterValidator(_check_origin)], ...], BeforeValidator(_split_commas)
    ] = ()
    auth: Literal["auto", "on", "off"] = "auto"
    hosts: Annotated[tuple[Annotated[str, AfterValidator(_check_name)], ...], BeforeValidator(_split_commas)] = ()
    backend_url: CallbackBase = None
    max_callback_result_bytes: int | None = Field(default=None, ge=1024)
    public_url: CallbackBase = None
    hf_token: SecretStr | None = None
    caption_api_key: SecretStr | None = None
    music_api_key: SecretStr | None = None
    cookie_secrets: Annotated[
        tuple[Annotated[SecretStr, Field(min_length=_MIN_COOKIE_SECRET_CHARS)], ...], BeforeValidator(_split_spaces)
    ] = ()
    cookie_secure: Literal["auto", "always", "never"] = "auto"
    model_mirror: Mirror | None = None
    device: Device = "auto"
    stt_device: Device | None = None
    stt_compute_type: ComputeType | None = None
    max_download_bytes: int = Field(default=4 * 1024**3, ge=1)
    download_timeout_s: float = Field(default=3600.0, gt=0, allow_inf_nan=False)
    max_duration_s: float = Field(default=14400.0, gt=0, allow_inf_nan=False)
    max_queued_jobs: int = Field(default=1000, ge=1)
    max_pieces_in_work: int = Field(default=3, ge=1)
    max_pieces_per_hour: int = Field(default=30, ge=1)
    retention_days: float = Field(default=7.0, gt=0, allow_inf_nan=False)
    max_body_bytes: int = Field(default=1 << 20, ge=1024)
    max_upload_bytes: int = Field(default=512 * 1024**2, ge=1024)
    max_image_bytes: int = Field(default=20 * 1024**2, ge=1024)
    max_image_pixels: int = Field(default=50_000_000, ge=1)
    unknown_names: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read the environment.

        Raises:
            SettingsError: a variable holds what is not allowed.
        """
        names = {name: _variable(name) for name in cls.model_fields if name != "unknown_names"}
        given: dict[str, Any] = {
            name: env[variable].strip() for name, variable in names.items() if env.get(variable, "").strip()
        }
        state_dir = Path(given.setdefault("state_dir", str(_default_state_dir(env)))).expanduser()
        given.setdefault("database_url", f"sqlite:///{state_dir / 'jobs.sqlite3'}")
        # absolute even where the state folder is not: one wrong value gives one error
        given.setdefault("models_dir", str((state_dir / "models").absolute()))
        given.setdefault("artifacts_url", str(state_dir / "artifacts"))
        unknown = sorted(
            name
            for name in env
            if name.startswith(_PREFIX)
            and not name.startswith(_TEST_PREFIX)
            and name not in {_SERVICE_URL, _SERVICE_KEY, *names.values()}
        )
        try:
            return cls(**given, unknown_names=tuple(unknown))
        except ValidationError as error:
            lines = [
                f"{names[str(item['loc'][0])]}: {item['msg'].removeprefix('Value error, ')}"
                for item in error.errors(include_url=False, include_input=False, include_context=False)
            ]
            raise SettingsError("\n".join(lines)) from None

    @property
    def api(self) -> ApiSettings:
        """Settings of the HTTP layer behind Serve's proxy."""
        return ApiSettings(
            locale=self.locale,
            cors_origins=self.cors_origins,
            backend_url=self.backend_url,
            max_body_bytes=self.max_body_bytes,
            max_upload_bytes=self.max_upload_bytes,
            max_image_bytes=self.max_image_bytes,
            cookie_secrets=tuple(secret.get_secret_value() for secret in self.cookie_secrets),
            cookie_secure=self.cookie_secure,
            proxy_echoes_request_id=True,
        )

    def api_on(self, host: str | None) -> ApiSettings:
        """Return `api` for a server that listens on an address; None: it is not known, and callers need keys."""
        is_local = host is not None and is_loopback(host)
        keys_on = self.auth == "on" or (self.auth == "auto" and not is_local)
        checks_host = not keys_on and (is_local or bool(self.hosts))
        return replace(self.api, keys_on=keys_on, hosts=self.hosts if checks_host else None)

    @property
    def retention_s(self) -> float:
        return self.retention_days * 86400

    def webhook_secret_values(self) -> tuple[str, ...]:
        """Return the plain webhook secrets, for the signer only."""
        return tuple(secret.get_secret_value() for secret in self.webhook_secrets)

    def warnings(self) -> tuple[str, ...]:
        """Return a sentence for each SERVE_APP_* variable that is no setting."""
        variables = [_variable(name) for name in type(self).model_fields if name != "unknown_names"]
        known = [name.removeprefix(_PREFIX) for name in variables if name.startswith(_PREFIX)]
        sentences = []
        for name in self.unknown_names:
            # the common prefix would make any two names similar
            near = difflib.get_close_matches(name.removeprefix(_PREFIX), known, n=1)
            hint = f"; did you mean {_PREFIX}{near[0]}?" if near else ""
            sentences.append(f"{name} is not a setting and is ignored{hint}")
        return tuple(sentences)


def service_url(env: Mapping[str, str] = os.environ) -> str:
    """Return the service's URL for the command line: SERVE_APP_URL, else the default port of this machine."""
    return env.get(_SERVICE_URL, "").strip() or "http://127.0.0.1:8000"


def _variable(field: str) -> str:
    return field.upper() if field.upper() in _UNPREFIXED else _PREFIX + _RENAMED.get(field, field).upper()


_RENAMED = {"webhook_secrets": "webhook_secret", "cookie_secrets": "cookie_secret"}  # each may hold several


def _default_state_dir(env: Mapping[str, str]) -> Path:
    """Return the user's state folder by the XDG base directory specification, which ignores relative paths."""
    root = Path(env.get("XDG_STATE_HOME", ""))
    home = Path(env["HOME"]) if env.get("HOME") else Path.home()
    return (root if root.is_absolute() else home / ".local" / "state") / "serve_app"
