#!/bin/bash
curl -s -X POST http://localhost:8000/api/upload-video/process-video \
  -H "Content-Type: application/json" \
  -d '{
    "job_id": "550e8400-e29b-41d4-a716-446655440000",
    "video_url": "http://localhost:9100/missing.mp4",
    "fastapi_base_url": "http://localhost:9000/",
    "enable_gpu": true,
    "emotion_detection": true,
    "language": "ko",
    "max_workers": 4,
    "callback_token": "",
    "model_size": "base"
  }'
echo
# as requests.post(url, data=json.dumps(…)) sends it: without a Content-Type
curl -s -X POST http://localhost:8000/api/upload-video/process-video \
  -H "Content-Type:" \
  -d '{"job_id": "550e8400-e29b-41d4-a716-446655440001", "video_url": "http://localhost:9100/missing.mp4",
       "fastapi_base_url": "http://localhost:9000", "language": "Korean", "max_workers": 0, "num_speakers": ""}'
