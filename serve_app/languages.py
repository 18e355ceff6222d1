"""Languages that a Whisper may be asked for: codes, the names that OpenAI's answers give them, and other spellings.

The API can't import a model library, and only a deployed backend knows which of these it transcribes.
"""

from __future__ import annotations

import re
import unicodedata

from serve_app.results import AUTO

# whisper.tokenizer.LANGUAGES of openai-whisper 20250625 (MIT); older checkpoints lack the last one
_CODES_AND_NAMES = """
en english, zh chinese, de german, es spanish, ru russian, ko korean, fr french, ja japanese, pt portuguese,
tr turkish, pl polish, ca catalan, nl dutch, ar arabic, sv swedish, it italian, id indonesian, hi hindi, fi finnish,
vi vietnamese, he hebrew, uk ukrainian, el greek, ms malay, cs czech, ro romanian, da danish, hu hungarian,
ta tamil, no norwegian, th thai, ur urdu, hr croatian, bg bulgarian, lt lithuanian, la latin, mi maori,
ml malayalam, cy welsh, sk slovak, te telugu, fa persian, lv latvian, bn bengali, sr serbian, az azerbaijani,
sl slovenian, kn kannada, et estonian, mk macedonian, br breton, eu basque, is icelandic, hy armenian, ne nepali,
mn mongolian, bs bosnian, kk kazakh, sq albanian, sw swahili, gl galician, mr marathi, pa punjabi, si sinhala,
km khmer, sn shona, yo yoruba, so somali, af afrikaans, oc occitan, ka georgian, be belarusian, tg tajik, sd sindhi,
gu gujarati, am amharic, yi yiddish, lo lao, uz uzbek, fo faroese, ht haitian creole, ps pashto, tk turkmen,
nn nynorsk, mt maltese, sa sanskrit, lb luxembourgish, my myanmar, bo tibetan, tl tagalog, mg malagasy, as assamese,
tt tatar, haw hawaiian, ln lingala, ha hausa, ba bashkir, jw javanese, su sundanese, yue cantonese
"""
WHISPER_LANGUAGES = dict(entry.split(maxsplit=1) for entry in _CODES_AND_NAMES.strip().split(","))

# Whisper's own other names, codes of ISO 639 that it writes otherwise, and names in the languages themselves
_OTHER_SPELLINGS = """
my burmese, ca valencian, nl flemish, ht haitian, lb letzeburgesch, ps pushto, pa panjabi, ro moldavian, ro moldovan,
si sinhalese, es castilian, zh mandarin, ko kor, en eng, ja jpn, zh zho, zh chi, zh cmn, fr fra, de deu, es spa,
jw jv, he iw, no nb, tl fil, tl filipino, yi ji, id in,
ko 한국어, ko 한국말, ko 조선말, en 영어, ja 일본어, zh 중국어, ja 日本語, zh 中文, zh 汉语, zh 漢語, zh 普通话,
zh 國語, yue 粵語, yue 粤语, fr français, de deutsch, es español, pt português, it italiano, ru русский, uk українська,
tr türkçe, vi tiếng việt, th ภาษาไทย, id bahasa indonesia, ar العربية, hi हिन्दी, nl nederlands, pl polski
"""
_NOT_GIVEN = ("", "none", "null", "undefined", AUTO)  # how Python and JavaScript write nothing into a form


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


_CODES = {
    **{name: code for code, name in WHISPER_LANGUAGES.items()},
    **{
        _folded(name): code for code, name in (entry.split(maxsplit=1) for entry in _OTHER_SPELLINGS.strip().split(","))
    },
    **{code: code for code in WHISPER_LANGUAGES},
}
# "Korean (South Korea)"; "ko-KR", "zh_Hant_TW", "en_US.UTF-8", "english-us"
_REMARK = re.compile(r"\s*[(\[].*", re.DOTALL)
_SUBTAGS = re.compile(r"([a-z]+)(?:[-_][a-z0-9]{1,8})+(?:[.@].*)?", re.DOTALL)


def language_code(language: str | None) -> str:
    """Return Whisper's code of a language, or `auto` for None, "", "None", "null" and "undefined".

    It may be a code in any case, with a region or a script (`ko-KR`, `zh_Hant_TW`), an English name, or one of the more
    common languages' own names. What is none of Whisper's languages is returned in lower case; the caller refuses it.
    """
    text = _folded(language or "").strip()
    if text in _NOT_GIVEN:
        return AUTO
    plain = _REMARK.sub("", text)
    subtags = _SUBTAGS.fullmatch(plain)
    candidates = (text, plain, subtags[1] if subtags else "")
    return next((_CODES[name] for name in candidates if name in _CODES), text)


def language_name(code: str) -> str:
    """Return a language's English name in lower case; the code itself where it is none of Whisper's."""
    return WHISPER_LANGUAGES.get(code, code)
