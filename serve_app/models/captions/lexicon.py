"""A small lexicon of mood, English and Korean: words, their valence and their arousal.

The values are placed by hand on Russell's circumplex (1980), in steps of 0.1; they are no measured norms.
"""

from __future__ import annotations

import re
import unicodedata

Mood = tuple[float, float]  # valence, arousal

_MAX_LETTERS = 4000

# A word matches as written, or with -s, -ly, -ness, -ful or -ing where it is a stem that ends with *.
_ENGLISH: dict[str, Mood] = {
    "happy happiness cheerful* joy* joyous* merry delight* glad* smiling laughing": (0.8, 0.5),
    "playful* fun funny cute whimsical* quirky": (0.7, 0.5),
    "excited exciting excitement thrilling ecstatic euphoric exhilarating party festival carnival": (0.7, 0.9),
    "celebration celebrating festive triumphant* victorious heroic": (0.7, 0.8),
    "energetic lively vibrant* dynamic bustling upbeat vivid* dance* dancing": (0.5, 0.8),
    "fast quick* rapid* allegro presto brisk": (0.2, 0.7),
    "epic powerful* majestic grand dramatic intense* bold": (0.2, 0.7),
    "bright* sunny radiant* warm* golden sunlit fresh*": (0.6, 0.2),
    "hopeful* hope optimistic uplifting inspiring inspired": (0.7, 0.3),
    "beautiful* lovely pretty charming elegant* graceful*": (0.6, 0.0),
    "love loving romantic tender* affectionate sweet* intimate": (0.7, -0.1),
    "cozy cosy comfortable comfort* content contented relaxed relaxing relax": (0.6, -0.5),
    "calm* peaceful* peace serene serenity tranquil* soothing gentle gently soft* restful meditative": (0.5, -0.7),
    "quiet* stillness slow* adagio largo lazy unhurried": (0.1, -0.7),
    "dreamy dreamlike ethereal nostalgic nostalgia wistful* bittersweet": (0.2, -0.4),
    "mysterious* mystery mystic* mystical enigmatic surreal": (-0.1, 0.1),
    "andante moderate moderato steady": (0.1, -0.1),
    "sad* sadness sorrow* melancholy melancholic gloom* gloomy mournful* tearful crying": (-0.6, -0.4),
    "lonely loneliness lonesome desolate abandoned bleak* empty": (-0.6, -0.5),
    "depressed depressing despair* hopeless* grief miserable": (-0.8, -0.4),
    "dark* sombre somber shadowy murky dull boring bored": (-0.4, -0.3),
    "cold* foggy misty rainy overcast wintry": (-0.2, -0.4),
    "tired weary sleepy drowsy exhausted": (-0.2, -0.8),
    "tense* tension anxious* anxiety nervous* uneasy restless* worried ominous* eerie": (-0.5, 0.5),
    "scary frightening fear* terrifying terror horror creepy spooky menacing threatening": (-0.7, 0.7),
    "angry anger furious* rage aggressive* violent* hostile": (-0.7, 0.8),
    "stormy storm* turbulent chaotic chaos wild* fierce*": (-0.2, 0.8),
    "ugly disgusting dirty broken ruined": (-0.6, 0.1),
}

# A stem matches wherever it stands in a word: endings follow it. The longest one at a place counts.
_KOREAN: dict[str, Mood] = {
    "행복 기쁜 기쁨 기뻐 기쁘 즐거 즐겁 유쾌 흥겨 흥겹 웃음 미소": (0.8, 0.5),
    "귀여 귀엽 장난스 재미": (0.7, 0.5),
    "신나 신난 신남 흥분 열광 축제 파티 환희": (0.7, 0.9),
    "활기 활발 생동 역동 경쾌 에너지 발랄 춤추": (0.5, 0.8),
    "빠른 빠르 빨라": (0.2, 0.7),
    "웅장 장엄 강렬 격정 극적 화려 힘찬": (0.2, 0.7),
    "밝은 밝고 밝게 밝다 환한 환하 화사 햇살 따뜻 따스 상쾌 싱그": (0.6, 0.2),
    "희망 벅찬 설레 설렘": (0.7, 0.3),
    "아름다 아름답 예쁜 예쁘 우아": (0.6, 0.0),
    "사랑 로맨틱 낭만 다정 달콤": (0.7, -0.1),
    "아늑 포근 편안 안락 여유": (0.6, -0.5),
    "평화 평온 고요 잔잔 차분 온화 부드러 부드럽 평안": (0.5, -0.7),
    "조용 느린 느리 느긋 나른 한적": (0.1, -0.7),
    "몽환 꿈같 꿈결 그리운 그리움 그립 아련 노스탤": (0.2, -0.4),
    "신비 초현실": (-0.1, 0.1),
    "슬픈 슬프 슬퍼 슬픔 우울 애잔 구슬픈 구슬프 눈물 서글": (-0.6, -0.4),
    "외로 외롭 쓸쓸 적막 황량 공허 고독": (-0.6, -0.5),
    "절망 비참 비통": (-0.8, -0.4),
    "어두 어둡 침울 칙칙 음침 지루 따분": (-0.4, -0.3),
    "차가 차갑 추운 추위 흐린 안개": (-0.2, -0.4),
    "피곤 지친 졸린": (-0.2, -0.8),
    "긴장 불안 초조 불길 으스스": (-0.5, 0.5),
    "무서 무섭 공포 두려 오싹 섬뜩 위협": (-0.7, 0.7),
    "분노 화난 격분 공격적 폭력": (-0.7, 0.8),
    "폭풍 거친 거칠 격렬 혼란 사나": (-0.2, 0.8),
    "불행 불쾌 더러 더럽 추한 흉한": (-0.6, 0.1),
}

_ENDINGS = ("", "s", "ly", "ness", "ful", "fully", "ing")
_NEGATIONS = {"not", "no", "never", "without", "isn't", "aren't", "don't", "doesn't", "nothing", "hardly", "less"}
_NEGATION_REACH = 2  # words before the one that it negates
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_KOREAN_NEGATION = re.compile(r"[가-힣]{0,3}지 ?(?:않|못|마|말)|[가-힣]{0,2}(?:이|가|은|는)? ?(?:없|아니|아닌)")
_KOREAN_NEGATED = re.compile(r"(?<![가-힣])(?:안|못) ?$")


def _english() -> dict[str, Mood]:
    moods = {}
    for words, mood in _ENGLISH.items():
        for word in words.split():
            stem = word.removesuffix("*")
            endings = _ENDINGS if word.endswith("*") else ("",)
            moods.update({stem + ending: mood for ending in endings if (stem + ending) not in moods})
    return moods


_ENGLISH_MOODS = _english()
_KOREAN_MOODS = {word: mood for words, mood in _KOREAN.items() for word in words.split()}
_KOREAN_STEMS = re.compile("|".join(sorted(_KOREAN_MOODS, key=len, reverse=True)))


def found_words(text: str) -> list[Mood]:
    """Return the valence and arousal of each word of mood in a text, without those that are negated."""
    text = unicodedata.normalize("NFC", text[:_MAX_LETTERS]).lower().replace("’", "'")
    return [*_english_moods(text), *_korean_moods(text)]


def _english_moods(text: str) -> list[Mood]:
    words = _WORD.findall(text)
    return [
        _ENGLISH_MOODS[word]
        for place, word in enumerate(words)
        if word in _ENGLISH_MOODS and not _NEGATIONS.intersection(words[max(0, place - _NEGATION_REACH) : place])
    ]


def _korean_moods(text: str) -> list[Mood]:
    return [
        _KOREAN_MOODS[found.group()]
        for found in _KOREAN_STEMS.finditer(text)
        if not _KOREAN_NEGATION.match(text, found.end())
        and not _KOREAN_NEGATED.search(text, max(0, found.start() - 4), found.start())
    ]
