"""Python client of the HTTP interface.

    with Client("http://127.0.0.1:8000") as client:
        client.submit("https://example.org/talk.mp4", job_id="talk-1")
        for event in client.events("talk-1"):
            print(event.payload)
        job = client.get("talk-1")
        print(client.transcribe("clip.wav", language="en")["text"])
        print(client.transcribe_drums("loop.wav")["bpm"])
        client.generate_music("sea.jpg", job_id="sea-1")
        client.wait("sea-1")
        client.download_music("sea-1", "mp3", "sea.mp3")

Answers are the JSON objects of the routes, as dicts. Failures are raised as the classes of `serve_app.errors`.
"""

from serve_app.client.failures import error_from_response
from serve_app.client.service import Client, ClientEvent, MusicFormat

__all__ = ["Client", "ClientEvent", "MusicFormat", "error_from_response"]
