"""Words of the pages, in Korean and English."""

from __future__ import annotations

from serve_app.messages import Locale

# by name: Korean and English
_TEXTS = {
    "site": ("사진으로 만드는 음악", "Music from pictures"),
    "other_language": ("English", "한국어"),
    "my_pieces": ("내 음악", "My pieces"),
    "new_piece": ("새 음악 만들기", "Make a new piece"),
    "no_pieces": ("아직 만든 음악이 없습니다.", "You have made no piece yet."),
    "older": ("이전 음악 보기", "Older pieces"),
    "picture": ("사진", "Picture"),
    "picture_hint": ("JPEG, PNG, WebP, GIF, HEIC 등", "JPEG, PNG, WebP, GIF, HEIC and others"),
    "prompt": ("원하는 느낌 (선택)", "What you want to hear (optional)"),
    "prompt_hint": ("예: 잔잔한 피아노", "For example: a calm piano"),
    "duration": ("길이(초)", "Length in seconds"),
    "seed": ("시드 (선택)", "Seed (optional)"),
    "seed_hint": (
        "같은 사진에 같은 시드를 쓰면 같은 음악이 나옵니다.",
        "The same picture and seed make the same piece.",
    ),
    "seed_name": ("시드", "Seed"),
    "make": ("음악 만들기", "Make music"),
    "private": (
        "올린 사진과 음악은 이 브라우저에서만 볼 수 있습니다.",
        "Only this browser can see the pictures that you upload, and their pieces.",
    ),
    "in_work": ("음악을 만들고 있습니다", "Your music is being made"),
    "refreshes": ("이 페이지는 2초마다 새로 고쳐집니다.", "This page reloads every two seconds."),
    "ahead": ("앞에 있는 작업: %d", "Jobs before yours: %d"),
    "not_made": ("음악을 만들지 못했습니다", "The music could not be made"),
    "try_again": (
        "다른 사진으로 다시 시도하거나 아래에서 삭제할 수 있습니다.",
        "Try again with another picture, or delete this one below.",
    ),
    "the_picture": ("사진", "The picture"),
    "the_music": ("음악", "The music"),
    "plan": ("구상", "The plan"),
    "play": ("음악 듣기", "Listen to the music"),
    "downloads": ("내려받기", "Downloads"),
    "another": ("다른 버전 만들기", "Make another version"),
    "another_hint": (
        "같은 사진으로 시드만 바꿔 새로 만듭니다.",
        "The same picture, with another seed.",
    ),
    "delete": ("삭제", "Delete"),
    "delete_hint": (
        "사진과 음악을 모두 지웁니다. 되돌릴 수 없습니다.",
        "Removes picture and music. It can't be undone.",
    ),
    "about": ("만든 방법", "How it was made"),
    "captioner": ("사진을 설명한 모델", "Caption by"),
    "engine": ("음악을 만든 엔진", "Music by"),
    "licence": ("라이선스", "Licence"),
    "fallback": ("다른 엔진을 쓴 이유", "Why another engine or seed was given up"),
    "caption_fallback": ("다른 설명 방식을 쓴 이유", "Why another captioner was given up"),
    "loudness": ("음량", "Loudness"),
    "notes": ("참고", "Notes"),
    "failed": ("요청을 처리할 수 없습니다", "This request can't be done"),
    "back": ("내 음악으로 돌아가기", "Back to my pieces"),
    "state_processing": ("만드는 중", "in work"),
    "state_completed": ("완성", "ready"),
    "state_failed": ("실패", "failed"),
    "state_cancelled": ("취소됨", "cancelled"),
    "format_mp3": ("MP3 (음악)", "MP3 (music)"),
    "format_flac": ("FLAC (무손실)", "FLAC (lossless)"),
    "format_mid": ("MIDI (악보 데이터)", "MIDI (notes)"),
    "format_picture": ("사진", "Picture"),
    "format_caption": ("설명 (JSON)", "Caption (JSON)"),
    "format_plan": ("구상 (JSON)", "Plan (JSON)"),
}
# by code of a failure: what to do
_ADVICE = {
    "JOB_NOT_FOUND": (
        "이 음악이 없거나, 다른 브라우저에서 만든 것입니다.",
        "This piece does not exist, or another browser made it.",
    ),
    "MUSIC_FILE_MISSING": ("이 음악에는 이 형식의 파일이 없습니다.", "This piece has no file of this kind."),
    "JOB_CONFLICT": ("지금은 할 수 없습니다. 잠시 뒤 다시 시도하세요.", "Not possible now; try again in a while."),
    "QUOTA_EXCEEDED": (
        "한 번에 만들 수 있는 음악 수를 넘었습니다. 나중에 다시 시도하세요.",
        "You have made as many pieces as you may for now; try again later.",
    ),
    "OVERLOADED": (
        "대기 중인 작업이 너무 많습니다. 잠시 뒤 다시 시도하세요.",
        "Too many jobs are waiting; try again in a while.",
    ),
    "IMAGE_UNREADABLE": ("읽을 수 있는 사진 파일을 올려 주세요.", "Upload a picture file that can be read."),
    "IMAGE_TOO_LARGE": ("더 작은 사진을 올려 주세요.", "Upload a smaller picture."),
    "REQUEST_TOO_LARGE": ("더 작은 사진을 올려 주세요.", "Upload a smaller picture."),
    "INVALID_REQUEST": ("입력한 내용을 확인해 주세요.", "Check what you have entered."),
    "FORBIDDEN": (
        "다른 사이트에서 보낸 요청이거나, API 키에 이 작업을 할 권한이 없습니다.",
        "Another site sent this request, or your API key does not allow it.",
    ),
    "UNAUTHORIZED": (
        "API 키가 필요합니다. 이 페이지를 새로 고치고 키를 비밀번호로 입력하세요. 이름은 아무것이나 됩니다.",
        "An API key is needed: reload this page, and enter the key as the password, with any name.",
    ),
    "RATE_LIMITED": (
        "이 API 키로 보낼 수 있는 요청이나 작업 수를 넘었습니다. 나중에 다시 시도하세요.",
        "Your API key has used up its requests or its jobs for now; try again later.",
    ),
    "MISDIRECTED_REQUEST": (
        "이 주소로는 이 서버를 쓸 수 없습니다.",
        "This server can't be used by this address.",
    ),
}


def texts(locale: Locale) -> dict[str, str]:
    """Return the words by name."""
    return {name: _in(locale, pair) for name, pair in _TEXTS.items()}


def advice(code: str, locale: Locale) -> str | None:
    """Return what to do about a failure; None where its own message must suffice."""
    return _in(locale, _ADVICE[code]) if code in _ADVICE else None


def _in(locale: Locale, pair: tuple[str, str]) -> str:
    return pair[locale is Locale.EN]
