// The server's public API.

const KEY = "mllm-api-key";
const POLL_MS = 1500;
const BROKE = "the connection to the server broke before the end of the answer";

/** What the server refused, in its own words. */
export class ApiError extends Error {
  constructor(status, { message, code = null, param = null } = {}, retryAfter = 0) {
    super(message || `the server answered with status ${status}`);
    Object.assign(this, { status, code, param, retryAfter });
  }
}

export class Api {
  /** `askKey(wrong)` gives a key that a person typed; `onState("loading" | "stopping" | "gone" | "ready")`. */
  constructor({ askKey, onState }) {
    Object.assign(this, { askKey, onState });
  }

  async models() {
    return (await (await this.request("v1/models", {}, { patient: true })).json()).data;
  }

  async examples() {
    return (await this.request("examples")).json();
  }

  async report(body) {
    return (await this.request("v1/reports", json(body))).json();
  }

  /** The image of a file that this browser does not show, as PNG. */
  async preview(blob) {
    const headers = { "content-type": "application/octet-stream" };
    return (await this.request("preview", { method: "POST", headers, body: blob })).blob();
  }

  /** The chunks of an answer as they come. */
  async *chat(body, signal) {
    const asked = { ...body, stream: true, stream_options: { include_usage: true } };
    const response = await this.request("v1/chat/completions", { ...json(asked), signal });
    let ended = false;
    for await (const data of events(response.body)) {
      if (data === "[DONE]") ended = true;
      else {
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(response.status, chunk.error);
        yield chunk;
      }
    }
    if (!ended) throw new ApiError(0, { message: BROKE });
  }

  /** A response that is good. Waits while the model is loaded, and asks for a key where one is needed.
   * `patient`: waits for a server that cannot be reached, too. */
  async request(path, options = {}, { patient = false } = {}) {
    let tried = false;
    for (;;) {
      const headers = { ...options.headers };
      const key = sessionStorage.getItem(KEY);
      if (key) headers.authorization = `Bearer ${key}`;
      let response;
      try {
        response = await fetch(path, { ...options, headers });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        if (!patient) throw new ApiError(0, { message: "the server cannot be reached; is it still running?" });
        await this.ready(options.signal);
        continue;
      }
      if (response.ok) return response;
      const error = await problem(response);
      if (response.status === 401) {
        sessionStorage.setItem(KEY, await this.askKey(tried || Boolean(key)));
        tried = true;
      } else if (error.code === "loading") await this.ready(options.signal);
      else throw error;
    }
  }

  /** Wait until the server answers questions. */
  async ready(signal) {
    for (;;) {
      let state = "gone";
      try {
        state = (await (await fetch("ready", { signal })).json()).status;
      } catch (error) {
        if (error.name === "AbortError") throw error;
      }
      this.onState(state);
      if (state === "ready") return;
      await new Promise((resolve, reject) => {
        const timer = setTimeout(resolve, POLL_MS);
        signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
      });
    }
  }
}

const json = (body) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
});

async function problem(response) {
  const retryAfter = Number(response.headers.get("retry-after")) || 0;
  const text = await response.text();
  let told;
  try {
    told = JSON.parse(text).error;
  } catch {
    told = { message: `the server answered with status ${response.status}: ${text.slice(0, 200)}` };
  }
  return new ApiError(response.status, told, retryAfter);
}

/** The data of server-sent events. */
async function* events(body) {
  let rest = "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : new ApiError(0, { message: BROKE });
      });
      if (done) return;
      rest += value;
      for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
        const event = rest.slice(0, end);
        rest = rest.slice(end + 2);
        if (event.startsWith("data: ")) yield event.slice(6);
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // of a stream that is broken already
  }
}
