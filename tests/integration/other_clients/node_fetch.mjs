// Node's own fetch and FormData. Arguments: the server, a picture, a recording. Prints one JSON object.
import { openAsBlob } from "node:fs";
import { readFile } from "node:fs/promises";

const [base, picture, recording] = process.argv.slice(2);
const told = {};

async function post(path, body, more = {}) {
  const answer = await fetch(base + path, { method: "POST", body, ...more });
  return { status: answer.status, ...(await answer.json()) };
}

const several = new FormData();
several.append("file", new File([await readFile(picture)], "컵 새것.jpg", { type: "image/jpeg" }));
several.append("file", await openAsBlob(picture), "둘째 컵.jpg");
several.append("confidence_threshold", 1.0);
several.append("memo", "매장 3호점");
several.append("user_id", "");
told.beverage = await post("/verify-beverage", several);

const speech = new FormData();
speech.append("file", await openAsBlob(recording, { type: "audio/wav" }), "회의 녹음.wav");
speech.append("language", "ko-KR");
speech.append("backend", "faster-whisper");
told.speech = await post("/transcribe", speech);
speech.set("language", null); // JavaScript writes "null"
told.nothing = await post("/transcribe", speech);
speech.set("language", undefined); // and "undefined"
told.missing = await post("/transcribe", speech);

// a form whose length is not known before it is sent
const { headers, body } = new Request(base, { method: "POST", body: several });
const streamed = { duplex: "half", headers: { "content-type": headers.get("content-type") } };
told.streamed = await post("/verify-beverage/", body, streamed);

// a Blob without a name is "blob"
const unnamed = new FormData();
unnamed.append("file", new Blob([await readFile(picture)]));
told.unnamed = await post("/classify-reusable", unnamed);

const job = JSON.stringify({ job_id: "../bad", video_url: "https://example.com/a.mp4" });
told.job = await post("/api/upload-video/process-video", job, { headers: { "content-type": "application/json" } });
console.log(JSON.stringify(told));
