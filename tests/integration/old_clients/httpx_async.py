import asyncio

import httpx


async def main():
    async with httpx.AsyncClient(base_url="http://localhost:8000", timeout=120) as client:
        with open("컵 사진.jpg", "rb") as one, open("drink.jpg", "rb") as other:
            container, beverage = await asyncio.gather(
                client.post("/classify-reusable", files={"file": one}),
                client.post("/verify-beverage/", files={"file": other}, data={"confidence_threshold": "1.0"}),
            )
        print("container:", container.status_code, container.json()["predicted_class"])
        print("beverage:", beverage.status_code, beverage.json()["is_valid"])
        with open("회의 녹음.wav", "rb") as recording:
            form = {"language": "ko", "backend": "faster-whisper", "session": "3"}
            answer = await client.post("/transcribe", files={"file": recording}, data=form)
        print("text:", answer.json()["text"])
        print("filename:", answer.json()["filename"])
        print("head:", (await client.head("/health")).status_code)


asyncio.run(main())
