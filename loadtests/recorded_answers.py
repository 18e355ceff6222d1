"""Record what the real graph of a checkout answers over HTTP, so that two checkouts can be compared.

    cd CHECKOUT && python .../recorded_answers.py record OUT.jsonl     (about 7 minutes on two cores)
    python recorded_answers.py compare A.jsonl B.jsonl                 (exit status 1 if anything differs)

Nothing of serve_app is imported: only its command line, config keys, environment and routes are relied on. Requests are
sent one at a time. What differs from run to run (times, ports, ids) is replaced by the rules below.
"""

from __future__ import annotations

import argparse
import base64
import difflib
import hashlib
import hmac
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import wave
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import av
import httpx
import numpy as np
import yaml
from PIL import Image, ImageDraw


def sorted_stages(text: str) -> str:
    """Return stages by name, without their seconds: two run side by side, and either may end first."""
    return ",".join(f'"{name}":"<seconds>"' for name in sorted(re.findall(r'"(\w+)": ?', text)))


RULES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"(127\.0\.0\.1|localhost):\d+", r"\1:<port>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
    (r'("stage_seconds": ?)\{([^}]*)\}', lambda found: f"{found[1]}{{{sorted_stages(found[2])}}}"),
    (r'("processing_time": ?)[\d.e-]+', r'\1"<seconds>"'),
    (r'("estimated_time": ?)(?!(?:0|300)\b)\d+', r'\1"<seconds>"'),
    (r'("created": ?)\d+', r'\1"<time>"'),
    (r'("pid": ?)\d+', r'\1"<pid>"'),
    (r'("(replica|node|next_cursor)": ?)"[^"]*"', r'\1"<\2>"'),
    (r"msg_[0-9a-f]{32}", "msg_<id>"),
    (r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", "<request id>"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<request id>"),
    (r'"[A-Za-z0-9+/=]{4000,}"', lambda found: f'"<base64 sha256 {hashlib.sha256(found[0].encode()).hexdigest()}>"'),
    (r"(?m)^: heartbeat\n\n", ""),
]
DROPPED_HEADERS = {"date", "server", "host", "connection"}
SECRET_KEY = b"a key of thirty-two bytes, no more"
RESULT_PATH, SUBMIT = "/api/upload-video/result", "/api/upload-video/process-video"
READY_S, JOB_S = 300.0, 300.0

PAGES = {
    "GET": "/health /health/live /health/ready /models /v1/models /v1/models/whisper-1 /v1/models/faster-whisper"
    " /v1/models/none /openapi.json /docs /redoc /nothing / /v1/nothing /health/ /jobs/ /health/nothing /jobs/a/nothing"
    f" {SUBMIT} /transcribe /classify-reusable /transcribe-drums /v1/audio/transcriptions /generate-music",
    "POST": "/health /models /v1/models /jobs /jobs/a /jobs/a/events /docs /generate-music /openapi.json",
    "HEAD": "/health /jobs/a /docs",
    "OPTIONS": "/health /transcribe",
    "DELETE": "/health /jobs/a /models",
    "PUT": "/health /jobs/a",
}
IMAGE_FORMS = (
    "a.png | b.jpg | c.heic | a.png,noise.wav,empty.wav,b.jpg,cut.jpg | noise.wav | cut.jpg | empty.wav | huge.png"
)
# by route: a file, or several, and fields; see send_forms
FORMS = {
    "/classify-reusable": IMAGE_FORMS,
    "/verify-beverage": IMAGE_FORMS,
    "/transcribe": """
        en.flac backend=faster-whisper&language=en | en.flac backend=transformers | en.flac backend=openai-whisper
        en.flac backend=pocketsphinx | ko.flac | en.flac prompt=every+morning&align=false | silence.wav | noise.wav
        a.png | empty.wav | en.flac,ko.flac | en.flac backend=kaldi | en.flac language=xx | en.flac num_speakers=2
        en.flac colour=red | en.flac prompt=a%07 | clip.wav diarize=true&language=en&num_speakers=2
        ko.flac diarize=1&backend=faster-whisper&emotion_detection=false | silence.wav diarize=true
        noise.wav diarize=true | clip.wav diarize=yes&min_speakers=3&max_speakers=2 | en.flac diarize=perhaps""",
    "/v1/audio/transcriptions": """
        en.flac model=whisper-1 | en.flac model=whisper-1&response_format=text | silence.wav model=whisper-1
        clip.wav model=pocketsphinx&response_format=srt | clip.wav model=pocketsphinx&response_format=vtt&language=en
        en.flac model=whisper-1&response_format=verbose_json | en.flac model=whisper-1&response_format=none
        clip.wav model=pocketsphinx&response_format=diarized_json&language=en
        ko.flac model=faster-whisper&response_format=verbose_json&prompt=오늘&timestamp_granularities[]=word
        ko.flac model=whisper-1&response_format=verbose_json&timestamp_granularities=word&prompt=
        en.flac model=gpt-4o-transcribe&stream=true | noise.wav model=whisper-1&stream=true
        clip.wav model=pocketsphinx&stream=true&language=en&timestamp_granularities[]=segment
        clip.wav model=pocketsphinx&stream=true&response_format=diarized_json&chunking_strategy[type]=server_vad
        silence.wav model=whisper-1&response_format=srt | en.flac model=whisper-1&stream=true&response_format=srt
        en.flac model=whisper-1&timestamp_granularities=word | en.flac model=none | en.flac | noise.wav model=whisper-1
        en.flac model=whisper-1&temperature=2 | en.flac model=whisper-1&include[]=logprobs
        en.flac model=whisper-1&keywords=a | en.flac model=whisper-1&known_speaker_names[]=a
        en.flac model=whisper-1&languages[]=en | en.flac model=whisper-1&chunking_strategy[threshold]=0.5""",
    "/v1/audio/translations": """
        ko.flac model=whisper-1 | ko.flac model=transformers&language=ko&response_format=srt | ko.flac model=none
        ko.flac model=whisper-1&response_format=diarized_json | noise.wav model=whisper-1 | ko.flac""",
    "/transcribe-drums": """
        rock.wav | rock.wav bpm=120 | rock.wav bpm=120&grid_hihat=4&threshold_hihat=0.9&plot=true
        rock.wav Accept=audio/midi&bpm=120 | rock.wav Accept=audio/x-midi | rock.wav Accept=audio/*
        rock.wav Accept=text/html | rock.wav Accept=*/*,audio/midi;q=0.5 | 드럼.wav Accept=audio/midi
        rock.wav,noise.wav,empty.wav,a.png,rock.wav | rock.wav,rock.wav Accept=audio/midi | silence.wav | noise.wav
        noise.wav Accept=audio/midi | empty.wav | noise.wav bpm=401 | noise.wav bpm=nan | noise.wav grid_kick=0
        noise.wav threshold_snare=1 | noise.wav colour=red""",
}
IMAGE_BODIES = """[{image_url: BASE/a.png}, {image_url: MEDIA/a.png}, {image_url: /etc/passwd}, {image_url: BASE/none},
    {image_urls: [BASE/a.png, BASE/none, "http://10.0.0.1/a.png", BASE/page.html]}, {image: a}, {}, [1],
    {image_urls: []}, {image_url: "http://169.254.169.254/a.png"}, {image_url: a, image_urls: [a]},
    {image_url: BASE/huge.png}]"""
JSON_BODIES = {
    "/classify-reusable": IMAGE_BODIES,
    "/verify-beverage": IMAGE_BODIES,
    "/transcribe": """[
        {audio_path: MEDIA/clip.wav, video_url: "https://ignored.example/", language: en, enable_gpu: false},
        {video_url: BASE/ko.flac, video_path: /ignored, audio_path: ""}, {video_path: /etc/passwd},
        {video_url: BASE/none}, {video_url: BASE/page.html}, {video_url: BASE/noise.wav}, {video_url: BASE/large.wav},
        {video_url: "http://[::ffff:10.0.0.1]/a.mp4"}, {audio_path: MEDIA/clip.wav, language: ja}, {language: en}, text,
        {audio_path: "a\\n", language: fr, max_workers: 0, num_speakers: x, more: 1}]""",
    "/v1/audio/transcriptions": "[{model: whisper-1}]",
    "/transcribe-drums": "[{}]",
}
BAD_JOBS = """[{language: fr}, {job_id: ../../etc/passwd}, {video_url: null}, {video_url: ""}, {surprise: 1},
    {max_workers: 0}, {min_speakers: 3, max_speakers: 2}, {num_speakers: 9, max_speakers: 2}, {video_url: "http://a/\\n"},
    {fastapi_base_url: "http://169.254.169.254"}, {fastapi_base_url: "http://[::ffff:10.0.0.1]/"},
    {fastapi_base_url: "http://a:b@example.com"}, {fastapi_base_url: example.com}]"""
FAILING_JOBS = """{missing: BASE/none, page: BASE/page.html, empty: BASE/empty.wav, no-media: BASE/noise.wav,
    no-track: BASE/a.png, private: "http://10.0.0.1/video.mp4", number: "http://2130706434/", file: "file:///etc/passwd",
    ftp: "ftp://example.com/video.mp4", outside: /etc/passwd}"""
LIMITS = {
    "MAX_BODY_BYTES": "4096",
    "MAX_UPLOAD_BYTES": "100000",
    "MAX_IMAGE_BYTES": "50000",
    "MAX_IMAGE_PIXELS": "1000",
    "MAX_DURATION_S": "5",
    "MAX_DOWNLOAD_BYTES": "1000000",
    "CORS_ORIGINS": "https://page.example",
}


class Receiver(ThreadingHTTPServer):
    """Serves a folder, keeps what is posted. `/wait/…` is served once `release` is set.

    Callbacks under `/gone` are answered 410, and those under `/flaky` 500 the first time.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.asked, self.release = threading.Event(), threading.Event()
        server = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/wait/"):
                    server.asked.set()
                    server.release.wait(120)
                    self.path = self.path.removeprefix("/wait")
                super().do_GET()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                known = [post[1]["webhook-id"] for post in server.posts]
                server.posts.append((self.path, headers, body))
                flaky = self.path.startswith("/flaky") and headers["webhook-id"] not in known
                self.send_response(410 if self.path.startswith("/gone") else 500 if flaky else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(folder)))
        self.base = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        """Say nothing: a download that is too large is broken off."""


class Recorder:
    """Sends requests to a graph and writes down the answers."""

    def __init__(
        self, base: str, folder: Path, receiver: Receiver, prefix: str, records: dict[str, dict[str, Any]]
    ) -> None:
        # a new connection for each: what is refused early is told, and closed, before all of it was sent
        unkept = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.Client(base_url=base, timeout=300.0, trust_env=False, limits=unkept)
        self.replaced = {str(folder): "<folder>", str(Path.cwd()): "<checkout>"}
        self.receiver, self.prefix, self.records = receiver, prefix, records

    def ask(self, method: str, path: str, name: str = "", **request: Any) -> httpx.Response:
        """Send a request and record its answer; its name is `METHOD path`, with `name` behind it."""
        name = f"{self.prefix}{method} {path}{name and f' ({name})'}"
        sent = {key: value for key, value in request.items() if key not in ("files", "content")}
        if "files" in request:
            sent["files"] = [(field, file[0], len(file[1])) for field, file in request["files"]]
        if "content" in request:
            sent["content"] = request["content"].decode("ascii", "replace")[:200]
        request["headers"] = {"x-request-id": f"ask-{zlib.crc32(name.encode()):08x}"} | request.get("headers", {})
        answer = self.client.request(method, path, **request)
        self.write(name, sent, answer.status_code, dict(answer.headers), answer.content)
        return answer

    def write(self, name: str, sent: Any, status: int, headers: dict[str, str], content: bytes) -> None:
        """Keep one answer, or one callback, without what differs from run to run."""
        if name in self.records:
            raise ValueError(f"two answers are named {name}")
        try:
            body = content.decode() if name.endswith("GET /openapi.json") else self.plain(content.decode())
        except UnicodeDecodeError:
            body = f"<sha256 {hashlib.sha256(content).hexdigest()}>"
            changed = False
        else:
            changed = body.encode() != content
        kept = {key: self.plain(value) for key, value in sorted(headers.items()) if key not in DROPPED_HEADERS}
        if "allow" in kept:  # a set, whose order differs from process to process
            kept["allow"] = ", ".join(sorted(kept["allow"].split(", ")))
        if changed and "content-length" in kept:
            kept["content-length"] = "<of the changed text>"
        told = json.loads(self.plain(json.dumps(sent)))
        self.records[name] = {"name": name, "request": told, "status": status, "headers": kept, "body": body}
        print(f"{status} {name}", flush=True)

    def plain(self, text: str) -> str:
        """Return a text without what differs from run to run."""
        for old, new in self.replaced.items():
            text = text.replace(old, new)
        for pattern, replacement in RULES:
            text = re.sub(pattern, replacement, text)
        return text

    def job(self, job_id: str, url: str, callback: str | None = "", **more: Any) -> None:
        """Submit a job, and record it once it has ended: its status, events, deliveries and callbacks."""
        known = len(self.receiver.posts)
        base = {} if callback is None else {"fastapi_base_url": self.receiver.base + callback}
        self.ask("POST", SUBMIT, f"job {job_id}", json={"job_id": job_id, "video_url": url, **base, **more})
        self.ask("GET", f"/jobs/{job_id}/events", "live")
        self.ask("GET", f"/jobs/{job_id}", "ended")
        self.wait(lambda: '"pending"' not in self.client.get(f"/jobs/{job_id}/deliveries").text)
        if callback != "/gone":  # how many events were there before the 410 was noted is a matter of milliseconds
            self.ask("GET", f"/jobs/{job_id}/deliveries", "ended")
            self.callbacks(job_id, known)

    def callbacks(self, name: str, known: int) -> None:
        """Record the callbacks that came since `known` were there, in order of arrival."""
        for number, (path, headers, body) in enumerate(self.receiver.posts[known:], 1):
            stamp = headers["webhook-timestamp"]
            signed = b".".join((headers["webhook-id"].encode(), stamp.encode(), body))
            right = b"v1," + base64.b64encode(hmac.new(SECRET_KEY, signed, hashlib.sha256).digest())
            told = {**headers, "webhook-timestamp": "<time>" if abs(int(stamp) - time.time()) < 600 else stamp}
            if "webhook-signature" in told:
                told["webhook-signature"] = "right" if told["webhook-signature"].encode() == right else "wrong"
            self.write(f"{self.prefix}callback {number} of {name}", path, 0, told, body)

    def wait_for_posts(self, number: int) -> None:
        """Return once so many callbacks have come in all."""
        self.wait(lambda: len(self.receiver.posts) >= number)

    def wait(self, is_so: Callable[[], bool], timeout_s: float = JOB_S) -> None:
        """Return once something is so; TimeoutError."""
        ends = time.monotonic() + timeout_s
        while not is_so():
            if time.monotonic() > ends:
                raise TimeoutError(f"not within {timeout_s:.0f} s, after {list(self.records)[-1]}")
            time.sleep(0.2)


def found(name: str) -> Path:
    """Return a file of the checkout by its name, wherever it lies."""
    for folder, folders, files in os.walk(Path.cwd()):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        if name in files:
            return Path(folder, name)
    raise FileNotFoundError(name)


def wav(samples: np.ndarray, rate_hz: int) -> bytes:
    """Return mono samples as a 16-bit WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((1, 2, rate_hz, 0, "NONE", ""))
        written.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


def dialogue(seconds: int) -> bytes:
    """Return the beginning of the demonstration's dialogue."""
    resampler = av.AudioResampler("flt", "mono", 16_000)
    with av.open(str(found("dialogue.mp4"))) as container:
        parts = [part.to_ndarray()[0] for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return wav(np.concatenate(parts)[: seconds * 16_000], 16_000)


def drums() -> bytes:
    """Return four bars of rock at 120: kick on one and three, snare on two and four, hi-hat in eighths."""
    rng, rate_hz = np.random.default_rng(5), 44_100
    time_s = np.arange(int(0.2 * rate_hz)) / rate_hz
    noise = rng.normal(0, 0.4, len(time_s))
    kick = np.sin(2 * np.pi * (50 * time_s - 1.8 * np.exp(-time_s / 0.03))) * np.exp(-time_s / 0.08)
    snare = (0.6 * np.sin(2 * np.pi * 190 * time_s) + noise) * np.exp(-time_s / 0.06)
    hihat = np.diff(noise, 2, prepend=[0, 0]) * 0.4 * np.exp(-time_s / 0.03)
    samples = np.zeros(9 * rate_hz)
    for eighth in range(32):
        for sound in [hihat] if eighth % 2 else [hihat, snare if eighth % 4 else kick]:
            start = int((0.5 + eighth / 4) * rate_hz)
            samples[start : start + len(sound)] += 0.4 * sound
    return wav(samples, rate_hz)


def picture(kind: str, **options: Any) -> bytes:
    """Return a drawn cup."""
    image = Image.new("RGB", (320, 240), "#dde6ee")
    draw = ImageDraw.Draw(image)
    draw.polygon([(110, 50), (210, 50), (195, 200), (125, 200)], fill="#8a5a2b", outline="#222222")
    draw.ellipse([110, 40, 210, 62], fill="#f4efe6", outline="#222222")
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def written_media(folder: Path) -> Path:
    """Write the files that are sent and served, and return their folder."""
    media = folder / "media"
    media.mkdir()
    (folder / "weights").symlink_to(found("container_net.safetensors"))
    jpeg, rock, silence = picture("JPEG", quality=90), drums(), np.zeros(32_000)
    for name, content in {
        "en.flac": found("en-00.flac").read_bytes(),
        "ko.flac": found("ko-00.flac").read_bytes(),
        "clip.wav": dialogue(12),
        "silence.wav": wav(silence, 16_000),
        "noise.wav": b"no sound at all" * 99,
        "empty.wav": b"",
        "large.wav": wav(np.zeros(1_000_000), 16_000),
        "rock.wav": rock,
        "드럼.wav": rock,
        "a.png": picture("PNG"),
        "a.bmp": picture("BMP"),
        "b.jpg": jpeg,
        "cut.jpg": jpeg[:500],
        "c.heic": found("upright.heic").read_bytes(),
        "huge.png": bytes(21 << 20),
        "page.html": b"<!doctype html><html><body>sign in</body></html>",
    }.items():
        (media / name).write_bytes(content)
    return media


def written_config(folder: Path) -> Path:
    """Write `configs/local.yaml` with embedded models only, one job at a time, and no replica stopped while idle."""
    config = yaml.safe_load(Path("configs/local.yaml").read_text())
    [application] = config["applications"]
    application["args"] |= {
        "whisper": {"models": ["embedded:whisper-micro"]},
        "images": {
            "container": {"model": str(folder / "weights"), "in_ingress": False},
            "beverage": {"in_ingress": True},
        },
        "job_runner": {"min_replicas": 1, "max_replicas": 1, "jobs_per_replica": 1, "poll_interval_s": 0.1},
    }
    for deployment in application["deployments"]:
        if "autoscaling_config" in deployment:
            deployment["autoscaling_config"] |= {"min_replicas": 0, "downscale_delay_s": 3600}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def graph(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run the checkout's graph and yield its address once it is ready; end all that it started."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as free:
        port = free.server_address[1]
    ours = ("SERVE_APP_", "BACKEND_URL", "HF_TOKEN", "DEVICE", "STT_", "RAY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    kept |= {"PYTHONPATH": str(Path.cwd()), "HF_HUB_OFFLINE": "1"}
    folders = {"SERVE_APP_STATE_DIR": str(folder / "state"), "SERVE_APP_MODELS_DIR": str(folder / "models")}
    command = [sys.executable, "-m", "serve_app", "run", str(written_config(folder))]
    command += ["--port", str(port), "--ray-dir", str(folder / "ray")]
    with (folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env={**kept, **folders, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    base, ends = f"http://127.0.0.1:{port}", time.monotonic() + READY_S
    try:
        while True:
            try:
                if httpx.get(f"{base}/health/ready", timeout=5.0, trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            if process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError("the graph did not start:\n" + (folder / "serve.log").read_text()[-4000:])
            time.sleep(0.5)
        yield base
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
        for stat in Path("/proc").glob("[0-9]*/stat"):  # Ray's daemons keep the session of what started them
            try:
                if int(stat.read_text().rpartition(")")[2].split()[3]) == process.pid:
                    os.kill(int(stat.parent.name), signal.SIGKILL)
            except (OSError, ValueError):
                continue


def send_forms(recorder: Recorder, route: str, media: Path, forms: str) -> None:
    """Send `forms`: in each line, or between bars, files with commas between them, and the fields as a query string."""
    for form in re.split(r"\s*[|\n]\s*", forms.strip()):
        names, _, fields = form.partition(" ")
        data: dict[str, Any] = parse_qs(fields)
        headers = {"accept": data.pop("Accept", ["*/*"])[0]}
        files = [("file", (name, (media / name).read_bytes())) for name in names.split(",")]
        recorder.ask("POST", route, form, files=files, data=data, headers=headers)


def send_json(recorder: Recorder, route: str, media: Path, bodies: str, **common: Any) -> None:
    """Send bodies, a YAML list in which `BASE` stands for where files are served, and `MEDIA` for their folder."""
    filled = bodies.replace("BASE", recorder.receiver.base).replace("MEDIA", str(media))
    for body in yaml.safe_load(filled):
        name = recorder.plain(json.dumps(body))
        recorder.ask("POST", route, name, json={**common, **body} if isinstance(body, dict) else body)


def send_odd(recorder: Recorder, media: Path) -> None:
    """Send what no route that takes files understands."""
    png = ("a.png", (media / "a.png").read_bytes())
    for route in FORMS:
        ask = partial(recorder.ask, "POST", route)
        ask("other field", files=[("picture", png)], data={"model": "whisper-1"})
        ask("field repeated", files=[("file", png)], data={"language": ["en", "ko"]})
        ask("file as text too", files=[("file", png)], data={"file": "a"})
        ask("33 files", files=[("file", ("a.png", b"a"))] * 33)
        ask("cut off", content=b"--x", headers={"content-type": "multipart/form-data; boundary=x"})
        ask("no boundary", content=b"--x", headers={"content-type": "multipart/form-data"})
        ask("bad JSON", content=b"{", headers={"content-type": "application/json"})
        ask("long JSON", content=b" " * (1 << 20) + b"{}", headers={"content-type": "application/json"})
        ask("raw", content=png[1], headers={"content-type": "image/png"})
        ask("nothing")


def send_jobs(recorder: Recorder, media: Path) -> None:
    """Run jobs to their end, well and badly, with callbacks; read, list, cancel, replay and delete them."""
    ask, receiver, base = recorder.ask, recorder.receiver, recorder.receiver.base
    send_json(recorder, SUBMIT, media, BAD_JOBS, job_id="bad", video_url="https://example.com/video.mp4")
    send_json(recorder, SUBMIT, media, "[{}, [], text, {job_id: 5, enable_gpu: perhaps, max_workers: 1.5}]")
    for name, content in {"no JSON": b"{", "empty": b"", "too large": b" " * (1 << 20) + b"{}"}.items():
        ask("POST", SUBMIT, name, content=content, headers={"content-type": "application/json"})
    ask("POST", SUBMIT, "form", data={"job_id": "bad"})
    for path in ("", "/events", "/transcript.srt", "/transcript.doc", "/deliveries"):
        ask("GET", f"/jobs/unknown{path}")
    for path in ("cancel", "deliveries/replay"):
        ask("POST", f"/jobs/unknown/{path}")
    ask("DELETE", "/jobs/unknown")
    ask("GET", "/jobs/.hidden")
    ask("GET", "/jobs", "none yet")

    recorder.job("dialogue", f"{base}/clip.wav", language="en")
    request = {"job_id": "dialogue", "video_url": f"{base}/clip.wav", "fastapi_base_url": base, "language": "en"}
    ask("POST", SUBMIT, "the same again", json=request | {"max_workers": "4", "num_speakers": None})
    ask("POST", SUBMIT, "another of that id", json=request | {"language": "auto"})
    for form in ("srt", "vtt", "txt", "json", "doc"):
        ask("GET", f"/jobs/dialogue/transcript.{form}")
    for number in ("3", "7", "99", "-1", "x"):
        ask("GET", "/jobs/dialogue/events", f"after {number}", headers={"last-event-id": number})
    ask("POST", "/jobs/dialogue/cancel")
    known = len(receiver.posts)
    ask("POST", "/jobs/dialogue/deliveries/replay")
    recorder.wait_for_posts(known + 7)
    recorder.callbacks("dialogue, replayed", known)
    recorder.job("korean", str(media / "ko.flac"), "/flaky", enable_gpu=False, num_speakers=1)
    recorder.job("silence", f"{base}/silence.wav", "/gone", language="ko", emotion_detection=False)
    for job_id in ("korean", "silence"):
        for form in ("srt", "vtt", "txt", "json"):
            ask("GET", f"/jobs/{job_id}/transcript.{form}")
    for job_id, url in yaml.safe_load(FAILING_JOBS.replace("BASE", base)).items():
        recorder.job(job_id, url)
    recorder.job("nobody-speaks-it", f"{base}/clip.wav", language="ja")
    recorder.job("untold", f"{base}/none.mp4", None)
    ask("GET", "/jobs/untold/transcript.srt")
    ask("POST", "/jobs/untold/deliveries/replay")

    ask("POST", SUBMIT, "waits for its file", json=request | {"job_id": "slow", "video_url": f"{base}/wait/clip.wav"})
    receiver.asked.wait(JOB_S)
    ask("POST", SUBMIT, "queued", json=request | {"job_id": "queued"})
    for job_id in ("slow", "queued"):
        ask("GET", f"/jobs/{job_id}")
        ask("GET", f"/jobs/{job_id}/transcript.srt")
        ask("DELETE", f"/jobs/{job_id}", "active")
    ask("GET", "/jobs?status=processing")
    ask("GET", "/jobs?status=queued")
    known = len(receiver.posts)
    for job_id in ("queued", "slow"):
        ask("POST", f"/jobs/{job_id}/cancel")
        ask("GET", f"/jobs/{job_id}/events", "cancelled")
        ask("GET", f"/jobs/{job_id}", "cancelled")
        known += 1
        recorder.wait_for_posts(known)
    receiver.release.set()
    recorder.callbacks("cancelled jobs", known - 2)

    ask("GET", "/jobs")
    for query in ("limit=0", "limit=101", "status=none", "status=cancelled", "cursor=none", "status=failed&limit=3"):
        ask("GET", f"/jobs?{query}")
    cursor = ask("GET", "/jobs?limit=5").json()["next_cursor"]
    page = recorder.client.get("/jobs", params={"limit": 5, "cursor": cursor})
    recorder.write("the second page", None, page.status_code, dict(page.headers), page.content)
    ask("DELETE", "/jobs/dialogue")
    ask("DELETE", "/jobs/dialogue", "again")
    ask("GET", "/jobs/dialogue", "deleted")


def ask_all(recorder: Recorder, media: Path) -> None:
    """Ask every route, in Korean."""
    ask, weights = recorder.ask, media.parent / "weights"
    for method, paths in PAGES.items():
        for path in paths.split():
            ask(method, path)
    ask("GET", "/health", "no request id", headers={"x-request-id": ""})
    ask("GET", "/nothing", "unsafe request id", headers={"x-request-id": "a b"})
    for name in ("container", "beverage", "none", "x" * 65):
        ask("POST", f"/models/{name}/reload")
    for route, forms in FORMS.items():
        send_forms(recorder, route, media, forms)
    for route, bodies in JSON_BODIES.items():
        send_json(recorder, route, media, bodies)
    send_odd(recorder, media)
    for threshold in ("0", "1", "1.5", "-1", "nan", "high"):
        send_forms(recorder, f"/verify-beverage?confidence_threshold={threshold}", media, "a.png")
    weights.unlink()
    weights.write_bytes(b"no weights")
    for name in ("container", "beverage"):
        ask("POST", f"/models/{name}/reload", "after the container's weights were broken")
    ask("POST", "/classify-reusable", "weights broken", files=[("file", ("a.png", (media / "a.png").read_bytes()))])
    send_jobs(recorder, media)
    for path in ("/health/ready", "/models", "/v1/models"):
        ask("GET", path, "at the end")


def ask_in_english(recorder: Recorder, media: Path) -> None:
    """Ask a graph with English sentences, small limits, a default callback, a page's origin, and no secret."""
    ask, base, page = recorder.ask, recorder.receiver.base, {"origin": "https://page.example"}
    wanted = {**page, "access-control-request-method": "POST", "access-control-request-headers": "last-event-id"}
    ask("OPTIONS", "/transcribe", "preflight", headers=wanted)
    ask("OPTIONS", "/transcribe", "of another page", headers=wanted | {"origin": "https://other.example"})
    ask("GET", "/nothing", headers=page)
    for job_id, name in {"silence": "silence.wav", "long": "clip.wav", "large": "large.wav", "gone": "none"}.items():
        recorder.job(job_id, f"{base}/{name}", None)
    send_json(recorder, "/transcribe", media, JSON_BODIES["/transcribe"])
    for route in FORMS:
        send_forms(recorder, route, media, "a.bmp model=whisper-1")
    send_forms(recorder, "/verify-beverage", media, "a.png")
    send_odd(recorder, media)


def record(out: Path) -> None:
    """Record the checkout in the current folder."""
    started_s, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="ra-", dir="/tmp"))  # Ray's sockets: short paths
    media = written_media(folder)
    receiver = Receiver(media)
    secret = {"SERVE_APP_WEBHOOK_SECRET": "whsec_" + base64.b64encode(SECRET_KEY).decode()}
    english = {"SERVE_APP_LOCALE": "en", "BACKEND_URL": f"{receiver.base}/default"}
    english |= {f"SERVE_APP_{name}": value for name, value in LIMITS.items()}
    records: dict[str, Any] = {}
    try:
        for prefix, ask, environment in (
            ("", ask_all, secret | {"SERVE_APP_MEDIA_ROOT": str(media)}),
            ("en: ", ask_in_english, english),
        ):
            with graph(folder, {"SERVE_APP_ALLOWED_HOSTS": "127.0.0.1", **environment}) as base:
                ask(Recorder(base, folder, receiver, prefix, records), media)
            shutil.rmtree(folder / "state", ignore_errors=True)
    finally:
        lines = (json.dumps(each, ensure_ascii=False, sort_keys=True) for each in records.values())
        out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        shutil.copy(folder / "serve.log", out.with_suffix(".log"))
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(records)} answers in {time.monotonic() - started_s:.0f} s: {out}")


def shown(record: dict[str, Any] | None, *, as_sent: bool) -> list[str]:
    """Return a record as lines; its JSON as it was sent, or one value a line."""
    if record is None:
        return []
    body = record["body"]
    if not as_sent:
        with suppress(ValueError):
            body = json.dumps(json.loads(body), ensure_ascii=False, indent=1)
    about = [json.dumps({key: record[key]}, ensure_ascii=False) for key in ("request", "status")]
    return [*about, *(f"{name}: {value}" for name, value in record["headers"].items()), *body.splitlines()]


def compare(old_path: Path, new_path: Path) -> int:
    """Print what differs between two recordings; return 1 if anything does."""
    old, new = (
        {each["name"]: each for each in map(json.loads, path.open(encoding="utf-8"))} for path in (old_path, new_path)
    )
    differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    for name in differing:
        for as_sent in (False, True):
            left, right = (shown(each.get(name), as_sent=as_sent) for each in (old, new))
            lines = list(difflib.unified_diff(left, right, f"{old_path}: {name}", f"{new_path}: {name}", lineterm=""))
            if lines:
                print("\n".join(lines))
                break
    print(f"{len(old)} and {len(new)} answers, {len(differing)} differ")
    return int(bool(differing))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("out", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "compare":
        sys.exit(compare(arguments.old, arguments.new))
    for stop in (signal.SIGINT, signal.SIGTERM):  # SIGINT comes ignored where a shell said `&`
        signal.signal(stop, signal.default_int_handler)
    record(arguments.out.resolve())


if __name__ == "__main__":
    main()
