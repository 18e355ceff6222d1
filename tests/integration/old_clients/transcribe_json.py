import requests

payload = {
    "video_path": "s3://bucket/not-read.mp4",
    "audio_path": "http://localhost:9100/talk.wav",
    "video_url": "http://localhost:9100/not-read.mp4",
    "enable_gpu": True,
    "emotion_detection": True,
    "language": "EN-us",
    "output_format": "json",
}
data = requests.post("http://localhost:8000/transcribe", json=payload).json()
print("success:", data["success"], data["error"], data["error_code"])
print("metadata:", *list(data["metadata"])[:5])
for name in ("filename", "language_requested", "language_detected", "processing_mode"):
    print(f"{name}:", data["metadata"][name])
print("totals:", data["metadata"]["total_segments"] == len(data["segments"]))
print("speakers:", data["metadata"]["unique_speakers"] == len(data["speakers"]))
words = [word for segment in data["segments"] for word in segment["words"]]
print("words:", len(words) > 0, all(word["acoustic_features"]["volume_db"] < 0 for word in words))

response = requests.post("http://localhost:8000/transcribe", json={"video_url": "http://localhost:9100/missing.mp4"})
data = response.json()
print("failure:", response.status_code, data["success"], data["error_code"], data["error"] != "")
