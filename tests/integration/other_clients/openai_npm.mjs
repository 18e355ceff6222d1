// OpenAI's package for Node. Arguments: the server's /v1, a recording. Prints one JSON object.
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import OpenAI, { BadRequestError, NotFoundError, toFile } from "openai";

const [baseURL, recording] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const told = { formats: {} };
told.version = JSON.parse(await readFile(new URL("node_modules/openai/package.json", import.meta.url))).version;
const create = (more) =>
  client.audio.transcriptions.create({ file: createReadStream(recording), model: "faster-whisper", ...more });

told.models = (await client.models.list()).data.map((model) => model.id);
told.retrieved = (await client.models.retrieve("whisper-1")).id;
for (const response_format of ["json", "text", "srt", "vtt", "verbose_json"]) {
  told.formats[response_format] = await create({ response_format, language: "ko", temperature: 0 });
}
told.words = await create({
  response_format: "verbose_json",
  timestamp_granularities: ["word", "segment"],
  prompt: "회사에서",
});
told.deltas = [];
for await (const event of await create({ stream: true })) told.deltas.push(event);
told.named = await client.audio.transcriptions.create({
  file: await toFile(await readFile(recording), "회의 녹음.wav"),
  model: "whisper-1",
});

async function failure(call) {
  try {
    await call;
    return null;
  } catch (error) {
    const kind = [BadRequestError, NotFoundError].find((each) => error instanceof each);
    return { kind: kind?.name, status: error.status, code: error.code, param: error.param, message: error.message };
  }
}
told.no_model = await failure(create({ model: "no-such-model" }));
told.no_such = await failure(client.models.retrieve("no-such-model"));
told.language = await failure(create({ language: "klingon" }));
told.broken = await failure(
  client.audio.transcriptions.create({ file: await toFile(Buffer.from("no sound"), "a.wav"), model: "whisper-1" }),
);
console.log(JSON.stringify(told));
