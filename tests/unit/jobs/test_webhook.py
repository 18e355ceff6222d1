import base64

import pytest

from serve_app.jobs.webhook import callback_url, headers, parse_secrets, signature

# The example that the Standard Webhooks libraries test themselves with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WEBHOOK_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP_S = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_signature_is_that_of_the_reference_libraries():
    assert signature(parse_secrets(SECRET), WEBHOOK_ID, TIMESTAMP_S, BODY) == SIGNATURE


def test_while_rotating_each_secret_signs():
    other = "whsec_" + base64.b64encode(b"k" * 24).decode()
    both = signature(parse_secrets(f"{other}  {SECRET}"), WEBHOOK_ID, TIMESTAMP_S, BODY).split(" ")
    assert len(both) == 2
    assert both[0] != SIGNATURE
    assert both[1] == SIGNATURE


def test_headers():
    values = headers(parse_secrets(SECRET), webhook_id=WEBHOOK_ID, seq=3, timestamp_s=TIMESTAMP_S, body=BODY)
    assert values["webhook-id"] == WEBHOOK_ID
    assert values["webhook-timestamp"] == "1614265330"
    assert values["webhook-sequence"] == "3"
    assert values["webhook-signature"] == SIGNATURE
    assert values["content-type"] == "application/json"


@pytest.mark.parametrize("setting", [None, "", "  "])
def test_no_secret_no_signature(setting):
    values = headers(parse_secrets(setting), webhook_id="msg_1", seq=1, timestamp_s=1, body=b"{}")
    assert "webhook-signature" not in values
    assert values["webhook-id"] == "msg_1"


@pytest.mark.parametrize("bad", ["c2VjcmV0", "whsec_", "whsec_%%%", "whsec_" + base64.b64encode(b"short").decode()])
def test_a_bad_secret_is_named_by_its_place_and_not_shown(bad):
    with pytest.raises(ValueError, match="webhook secret 2") as caught:
        parse_secrets(f"{SECRET} {bad}")
    assert bad.removeprefix("whsec_") == "" or bad.removeprefix("whsec_") not in str(caught.value)


def test_callback_url_has_one_slash():
    assert callback_url("https://b.example/app/") == "https://b.example/app/api/upload-video/result"
    assert callback_url("https://b.example") == "https://b.example/api/upload-video/result"
