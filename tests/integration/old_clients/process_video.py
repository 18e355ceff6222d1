import time
import uuid

import requests

BASE_URL = "http://localhost:8000"

request = {
    "job_id": str(uuid.uuid4()),
    "video_url": "http://localhost:9100/talk.wav",
    "fastapi_base_url": "http://localhost:9000",
    "enable_gpu": True,
    "emotion_detection": True,
    "language": "en",
    "max_workers": 128,
}
response = requests.post(f"{BASE_URL}/api/upload-video/process-video", json=request)
response.raise_for_status()
accepted = response.json()
print("job_id:", accepted["job_id"])
print("accepted:", accepted["status"], accepted["message"])
print("estimated_time:", isinstance(accepted["estimated_time"], int))

while True:
    job = requests.get(f"{BASE_URL}{accepted['status_url']}").json()
    if job["status"] in ("completed", "failed"):
        break
    time.sleep(0.5)
print("ended:", job["status"], job["processing_time"] > 0, job["completed_at"].endswith("Z"))
print("text:", job["result"]["text"])
print("notes:", job["result"]["metadata"].get("notes"))

# a client that lost the answer sends the job again
again = requests.post(f"{BASE_URL}/api/upload-video/process-video", json=request).json()
print("again:", again["status"], again["message"], again["status_url"] == accepted["status_url"])
print("real:", requests.get(f"{BASE_URL}/jobs/{request['job_id']}").json()["status"])

changed = requests.post(f"{BASE_URL}/api/upload-video/process-video", json={**request, "language": "ko"})
print("changed:", changed.status_code, changed.json()["detail"] != "")
missing = requests.post(f"{BASE_URL}/api/upload-video/process-video", json={"job_id": "x"})
print("missing:", missing.status_code, missing.json()["detail"][0]["loc"], missing.json()["detail"][0]["type"])
print("unknown:", requests.get(f"{BASE_URL}/jobs/{uuid.uuid4()}").status_code)
