#!/bin/bash
curl -s -X POST "http://localhost:8000/classify-reusable" \
  -H "accept: application/json" \
  -H "Content-Type: multipart/form-data" \
  -F "file=@컵 사진.jpg;type=image/jpeg"
echo
curl -s -X POST "http://localhost:8000/verify-beverage?confidence_threshold=1.0" -F "file=@drink.jpg"
echo
curl -s -X POST http://localhost:8000/verify-beverage -F "file=@drink.jpg" -F "confidence_threshold=1.0" -F "user_id="
echo
curl -s -L -X POST http://localhost:8000/classify-reusable/ -F file=@cup.jpg
echo
curl -s http://localhost:8000/health
echo
curl -s -I http://localhost:8000/health | head -1
