#!/bin/bash
curl -s -X POST http://localhost:8000/transcribe -F "file=@회의 녹음.wav" -F "language=ko" -F "backend=faster-whisper"
echo
curl -s -X POST http://localhost:8000/transcribe \
  -H "Content-Type: application/json" \
  -d '{
    "audio_path": null,
    "video_path": "",
    "video_url": "http://localhost:9100/talk.wav",
    "enable_gpu": false,
    "emotion_detection": false
  }'
echo
curl -s -X POST http://localhost:8000/transcribe -H 'Content-Type: application/json' -d '{"language": "en"}'
