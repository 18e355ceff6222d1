from typing import Any, Dict, Optional

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class VideoResult(BaseModel):
    job_id: str
    status: str
    progress: Optional[int] = None
    message: Optional[str] = None
    result: Optional[Dict[str, Any]] = None
    error_message: Optional[str] = None
    error_code: Optional[str] = None

    class Config:
        extra = "forbid"


app = FastAPI()


@app.post("/api/upload-video/result")
async def receive_result(body: VideoResult):
    if body.status == "completed":
        print(body.job_id, body.status, body.progress, body.message, body.result["text"], sep="\t", flush=True)
    elif body.status == "failed":
        print(body.job_id, body.status, body.error_code, body.error_message, sep="\t", flush=True)
    else:
        print(body.job_id, body.status, body.progress, body.message, sep="\t", flush=True)
    return {"received": True}


if __name__ == "__main__":
    uvicorn.run(app, host="localhost", port=9000, log_level="warning")
