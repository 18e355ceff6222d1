import requests

API = "http://localhost:8000/transcribe"


def transcribe(path, **options):
    files = {"file": open(path, "rb")}
    response = requests.post(API, files=files, data=options, timeout=300)
    return response.json()


result = transcribe("회의 녹음.wav", language="ko", backend="faster-whisper")
if result["success"]:
    print("text:", result["text"])
    print("language:", result["language"])
    print("duration:", result["duration"])
    print("backend:", result["backend"])
    for segment in result["segments"]:
        print("segment:", segment["start"] < segment["end"], segment["text"] != "")

for language in ("ko-KR", "KO", "Korean", "", None, "None"):
    answer = transcribe("회의 녹음.wav", language=language, backend="")
    print(f"{language!r}:", answer["success"], answer["language"], answer["text"] == result["text"])

# options of the old server's form that nobody needs any more
print("others:", transcribe("회의 녹음.wav", task="transcribe", beam_size=5, model="base")["success"])

result = transcribe("회의 녹음.wav", backend="kaldi")
if not result["success"]:
    print("error:", result["error"])
result = transcribe("memo.txt")
if not result["success"]:
    print("error_code:", result["error_code"], result["error"] != "")
