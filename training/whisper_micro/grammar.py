"""What is said: the words, the grammar that makes sentences of them, and the split by sentence.

English has 332 words and Korean 143 (words between spaces, as written). Text is lower case without punctuation, numbers
are words. No two words sound alike, but for those in `CONTEXT_WORDS`, which free word order leaves out: only a sentence
tells "to" from "two". Half of what is said is a sentence of the grammar and half are words in free order, so that the
decoder listens rather than guesses.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np

Language = Literal["en", "ko"]
Kind = Literal["grammar", "free"]
Split = Literal["train", "dev", "test"]
LANGUAGES: tuple[Language, ...] = ("en", "ko")

CONTEXT_WORDS = frozenset({"a", "to", "for", "in"})
FREE_WORDS = (3, 9)  # words in a string without grammar, least and most

# {name} takes one alternative of that list, which may hold names again; "-" is nothing.
_ENGLISH = {
    "sentence": """
        {who} {modal} {act} {when} | {who} {modal} {act} {where} | {who} {did} {where} {when} | {who} {did} {when}
        please {act} {where} | please {act} {when} | {question} | the {thing} is {state} | the {thing} is {where}
        there are {count} {things} {where} | the {event} starts at {clock} {day} | the {event} ends at {clock}
        the {event} is {state} {when} | {number} plus {number} is {number} | {number} minus {number} is {number}
        the weather will be {sky} {when} | it was {sky} and {sky} {when}
        the number is {digit} {digit} {digit} {digit}
        my phone number is {digit} {digit} {digit} {digit} {digit} | {turn} and then {turn} | {turn} {where}
        {who} would like a {size} {drink} with {food} | {who} would like {count} {things}
        {who} wanted {count} {things}
        the {thing} costs {number} dollars | the {colour} {thing} is {where} | {name} lives in {city}
        the {ride} from {city} to {city} leaves at {clock} | {who} will {go} to {city} {day}
        {name} and {name} {did}
        this {thing} is {degree} {state} | that {thing} is {degree} {state} | thank you for the {thing}
        good morning {name} {question} | hello {name} the {thing} is {state}
        we need {number} {things} for the {event}
        {who} can hear the {sound} {where} | {who} played the {sound} {when}
        every {part} {who} {go} to the {place}
    """,
    "question": """
        where is the {thing} | how many {things} do we need {when} | can you {act} {when} | did you {act}
        what is the price of the {thing} | when does the {event} start | who has the {colour} {thing}
        why is the {thing} {state} | is the {place} {near} the {place} | do you want {count} {things}
    """,
    "who": "i | you | we | they | he | she | {name} | my {kin} | the {job} | everyone",
    "name": "daniel | sarah | peter | anna",
    "kin": "mother | father | brother | sister | friend | family | children",
    "job": "doctor | teacher | driver | student | people",
    "modal": "can | will | should | must | could | would",
    "act": """
        {do} the {thing} | {do} the {colour} {thing} | {do} {count} {things} | {do} the {size} {thing}
        play the {sound} | call {name} | ask the {job} | help my {kin} | wait for {name} | {go} to the {place}
    """,
    "do": """
        open | find | bring | clean | move | buy | carry | check | take | give | show | send
         fill | watch | start | stop | finish
    """,
    "go": "go | walk | drive | run | return",
    "did": """
        {done} the {thing} | {done} {count} {things} | {done} the {colour} {thing} | went to the {place}
        talked about the {event} | listened to the {sound} | forgot the {thing} | worked with {name} | slept
    """,
    "done": "found | brought | opened | cleaned | bought | sold | broke | made | saw | cooked",
    "thing": """
        cup | bottle | glass | plate | spoon | knife | table | chair | door | window | kitchen | box | bag | book
        letter | picture | video | camera | computer | phone | key | ticket | map | clock | car | shirt
          garden | flower | {drink} | {food} | {sound}
    """,
    "things": """
        cups | bottles | plates | chairs | windows | boxes | books | letters | pictures | videos | keys
        tickets | flowers
        apples | minutes | hours | dogs | cats  """,
    "drink": "coffee | tea | water | milk | juice | drink",
    "food": "bread | cheese | rice | sugar | salt | cake | breakfast | lunch | dinner",
    "sound": "music | drum | guitar | piano | song",
    "size": "big | small | large | little | heavy | short | hot | cold",
    "colour": "red | green | blue | yellow | black | white | brown | new | old",
    "state": """
        {size} | {colour} | clean | empty | full | ready | broken | expensive | beautiful
          easy | fast | slow | late | early
    """,
    "degree": "very | always | never | often",
    "count": "{number} | some | many | several | no | more",
    "number": "{digit} | {digit} | ten | eleven | twelve | {tens} | {tens} {digit} | {digit} hundred",
    "digit": "one | two | three | four | five | six | seven | eight | nine",
    "tens": "twenty | thirty | forty | fifty",
    "clock": "{digit} thirty | half past {digit} | {number} in the {part} | noon | midnight",
    "part": "morning | afternoon | evening | night",
    "day": "on {weekday} | on {weekday} {part} | next week | next month",
    "weekday": "monday | tuesday | wednesday | thursday | friday | saturday | sunday",
    "when": """
        today | tomorrow | yesterday | now | again | {day} | in {number} minutes | before {meal}
        after {meal} | tonight
        this {season} | last {season} | in {month} | at {clock} | - | -
    """,
    "meal": "breakfast | lunch | dinner | work | school | the {event}",
    "season": "summer | winter | spring | year | weekend",
    "month": "january | october",
    "event": "meeting | party | lesson | concert | festival | project | game | movie",
    "where": "{near} the {place} | {near} the {place} | here | outside | at home | -",
    "near": "in | at | near | behind | under | between | beside",
    "place": """
        office | hospital | station | airport | market | restaurant | library | museum | bridge | river | mountain
         street | hotel | park | church | house  """,
    "city": "london | boston | paris | seoul",
    "ride": "train | bus | plane",
    "sky": "sunny | cloudy | windy | warm | cold | rainy",
    "turn": """
        turn left at the {place} | turn right at the {place} | walk across the {place} | go straight
        cross the {place}
    """,
}

_KOREAN = {
    "sentence": """
        {when} {who} {where} {object} {does} | {who} {where} {object} {does} | {when} {who} {goal} {moves}
        {who} {how} {goal} {moves} | {when} {subject} {degree} {state} | {subject} {degree} {state}
        {subject} {state}
        {who} {object} {how} {does} | {event} {clock} {begins} | {when} {event} {clock} {begins}
        {who} {object} {likes}
        {drink} {number} 잔 주세요 | {fruit} {number} 개 주세요 | {job} {number} 명이 {where} 기다려요
        {when} {where} 만나요
        {subject} 어디에 있어요 | {place} {side} {place} 있어요 | 책 {number} 권을 {does}
        {who} {degree} {feels} | {greeting}
        {when} {clock} {where} 만나요 | {who} {when} {object} {does} | {how} {object} 주세요
        전화번호는 {digit} {digit} {digit} {digit}
    """,
    "when": """
        오늘 | 내일 | 어제 | 지금 | 아침에 | 저녁에 | 오후에 | 주말에 | {day} | 다음 주에 | 이번 주에 | 여름에  """,
    "day": "월요일에 | 화요일에 | 수요일에 | 목요일에 | 금요일에 | 토요일에 | 일요일에",
    "clock": "{number} 시에 | {number} 시 반에 | 오전 {number} 시에 | 오후 {number} 시에",
    "number": "한 | 두 | 세 | 네 | 다섯 | 여섯 | 일곱 | 여덟 | 아홉 | 열",
    "digit": "일 | 이 | 삼 | 사 | 오 | 육 | 칠 | 팔 | 구 | 영",
    "who": "저는 | 우리는 | 그녀는 | 친구가 | 동생이 | 선생님이 | 어머니가 | 아버지가 | 학생이",
    "job": "학생 | 사람",
    "where": "집에서 | 학교에서 | 회사에서 | 식당에서 | 공원에서 | 도서관에서 | 병원에서 | 사무실에서",
    "goal": "집에 | 학교에 | 회사에 | 공원에 | 병원에 | 서울에 | 바다에",
    "place": "학교에 | 회사에 | 공원에 | 병원에",
    "side": "앞에 | 옆에",
    "object": """
        커피를 | 물을 | 우유를 | 밥을 | 빵을 | 책을 | 음악을 | 영화를 | 비디오를 | 사진을 | 컵을 | 가방을 | 사과를
        기타를 | 창문을 | 노래를  """,
    "does": "마셔요 | 먹어요 | 읽어요 | 들어요 | 봐요 | 열어요 | 시작해요 | 만들어요 | 찾아요",
    "moves": "가요 | 와요 | 도착해요 | 출발해요",
    "begins": "시작해요 | 끝나요 | 있어요",
    "likes": "좋아해요",
    "subject": "날씨가 | 음식이 | 회의가 | 가방이 | 비디오가 | 음악이 | 버스가 | 기차가",
    "event": "회의가 | 버스가 | 기차가",
    "state": "좋아요 | 작아요 | 비싸요 | 추워요 | 더워요 | 맛있어요 | 필요해요",
    "feels": "바빠요 | 행복해요",
    "degree": "아주 | 조금 | 정말",
    "how": "빨리 | 천천히 | 같이 | 다시 | 많이",
    "drink": "커피 | 우유",
    "fruit": "사과",
    "greeting": "안녕하세요 {who} {when} {goal} {moves} | {when} 다시 만나요",
}
_RULES: dict[str, dict[str, str]] = {"en": _ENGLISH, "ko": _KOREAN}
_NAME = re.compile(r"\{(\w+)\}")


@cache
def _alternatives(language: Language) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(one.strip() for line in text.strip().splitlines() for one in line.split("|"))
        for name, text in _RULES[language].items()
    }


@cache
def vocabulary(language: Language) -> tuple[str, ...]:
    """Return all words of the grammar, in alphabetical order."""
    words = {
        word
        for alternatives in _alternatives(language).values()
        for text in alternatives
        for word in _NAME.sub(" ", text).split()
    }
    return tuple(sorted(words - {"-"}))


def sentence(rng: np.random.Generator, language: Language) -> str:
    """Return a random sentence of the grammar."""
    alternatives = _alternatives(language)

    def expand(text: str) -> str:
        return _NAME.sub(lambda name: expand(_choice(rng, alternatives[name[1]])), text)

    return " ".join(word for word in expand("{sentence}").split() if word != "-")


def word_string(rng: np.random.Generator, language: Language) -> str:
    """Return words of the vocabulary in free order, each as probable as any other."""
    words = [word for word in vocabulary(language) if word not in CONTEXT_WORDS]
    return " ".join(_choice(rng, words) for _ in range(rng.integers(FREE_WORDS[0], FREE_WORDS[1] + 1)))


def split_of(text: str) -> Split:
    """Return the split that a sentence belongs to, by its hash: a tenth each is for development and for the test."""
    tenth = int(hashlib.md5(text.encode()).hexdigest(), 16) % 10
    return "test" if tenth == 0 else "dev" if tenth == 1 else "train"


def draw(rng: np.random.Generator, language: Language, kind: Kind, split: Split) -> str:
    """Return a random text of that kind from that split."""
    make = sentence if kind == "grammar" else word_string
    while split_of(text := make(rng, language)) != split:
        pass
    return text


def _choice(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
