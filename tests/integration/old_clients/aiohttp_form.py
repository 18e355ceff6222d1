import asyncio

import aiohttp


async def main():
    async with aiohttp.ClientSession("http://localhost:8000") as session:
        data = aiohttp.FormData()
        data.add_field("file", open("컵 사진.jpg", "rb"), filename="컵 사진.jpg", content_type="image/jpeg")
        data.add_field("confidence_threshold", "1.0")
        data.add_field("branch", "강남")
        async with session.post("/verify-beverage", data=data) as response:
            print("beverage:", response.status, (await response.json())["is_valid"])
        for quoted in (True, False):
            data = aiohttp.FormData(quote_fields=quoted)
            data.add_field("file", open("회의 녹음.wav", "rb"), filename="회의 녹음.wav", content_type="audio/wav")
            data.add_field("language", "None")
            data.add_field("backend", "faster-whisper")
            async with session.post("/transcribe", data=data) as response:
                answer = await response.json()
                print("filename:", answer["filename"])
                print("text:", answer["text"])
        # a stream, whose length nobody knows
        with aiohttp.MultipartWriter("form-data") as writer:
            part = writer.append(open("컵 사진.jpg", "rb"), {"Content-Type": "image/jpeg"})
            part.set_content_disposition("form-data", name="file", filename="컵 사진.jpg")
            async with session.post("/classify-reusable", data=writer) as response:
                print("stream:", response.status, "is_reusable" in await response.json())


asyncio.run(main())
