import pytest

from serve_app.jobs.events import compose, host_of


@pytest.mark.parametrize(
    ("base", "host"),
    [
        ("https://Backend.Example/app", "backend.example"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("https://user:secret@b.example:8443/x", "b.example:8443"),
        ("http://[::1]:9000/", "[::1]:9000"),
        ("http://b.example?x=https://c.example", "b.example"),
        ("http://[::1", "[::1"),
        ("not a url", "not a url"),
    ],
)
def test_host_of_a_callback(base, host):
    assert host_of(base) == host


def test_the_result_is_put_back_into_the_one_event_that_carries_it():
    assert compose('{"status":"completed"}', '{"text":"안녕"}') == {"status": "completed", "result": {"text": "안녕"}}
    assert compose('{"status":"processing"}', None) == {"status": "processing"}
