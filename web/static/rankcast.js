/**
 * Rankcast from JavaScript: submit a job, watch its events, have its result. One module, for browsers
 * and Node 20, without dependencies; rankcast.d.ts says what everything takes and gives.
 *
 * The rules are those of the Python client. Only the id of the last event given to the caller is
 * remembered; each new connection names it, and the server goes on behind it. So an event is given
 * exactly once, however often the line is cut.
 */

/** @import * as Declared from "./rankcast.d.ts" */

const DEFAULT_URL = "http://127.0.0.1:8700";
const ANSWER_MS = 30_000;
/** The server sends a keepalive every 15 s: three of them missed means the line is dead. */
const SILENCE_MS = 45_000;

/** Longest pause between two tries, and the first one after a connection that brought something. */
const MAX_PAUSE_MS = 10_000;
const FIRST_PAUSE_MS = 100;
/** How long to go on trying while no connection can be made. */
const PATIENCE_MS = 300_000;
/** A longer time-out would overflow in a timer, and fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

const LARGEST_LOGS = 10_000;
const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

// Errors

export class RankcastError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

export class ServerUnreachable extends RankcastError {
  constructor(url, cause) {
    super(`nothing answers at ${url} (${told(cause)})`, { cause });
    this.url = url;
  }
}

export class ConnectionLost extends RankcastError {}

export class StoreUnavailable extends RankcastError {}

export class QueueFull extends RankcastError {}

export class UnknownTask extends RankcastError {
  constructor(detail, task, known) {
    super(detail);
    this.task = task;
    this.known = known;
  }
}

export class InvalidInput extends RankcastError {
  constructor(detail, faults) {
    super(detail);
    this.faults = faults;
  }
}

export class RequestRefused extends RankcastError {
  constructor(status, problem) {
    super(`the server answered ${status}: ${problem.detail ?? problem.title ?? "no details given"}`);
    this.status = status;
    this.problem = problem;
  }
}

export class NotAllowed extends RequestRefused {}

export class JobError extends RankcastError {
  constructor(jobId, message) {
    super(message);
    this.jobId = jobId;
  }
}

export class UnknownJob extends JobError {}

export class JobFailed extends JobError {
  constructor(jobId, error) {
    super(jobId, `job ${jobId} failed: ${describe(error)}`);
    this.error = error;
  }
}

export class JobCancelled extends JobError {
  constructor(jobId, error) {
    super(jobId, `job ${jobId} was cancelled`);
    this.error = error;
  }
}

/** One line of a job's error object: `exception on rank 1: ValueError: no such size`. */
function describe({ kind = "unknown", rank, type, message = "" }) {
  return `${kind}${rank === undefined ? "" : ` on rank ${rank}`}: ${type ? `${type}: ` : ""}${message}`;
}

/** Why a fetch failed. Of itself it says no more than "fetch failed"; Node has the reason in its cause. */
function told(error) {
  return error.cause?.message || error.cause?.code || error.message;
}

/** What a later try may heal. */
function isPassing(error) {
  return [ConnectionLost, ServerUnreachable, StoreUnavailable].some((kind) => error instanceof kind);
}

/** What an answer that is not 2xx stands for, by its problem's type; RFC 9457, section 3.1.1. */
function refusal({ status, problem }, { jobId = "", task = "" }) {
  const detail = String(problem.detail ?? `the server answered ${status}`);
  switch (slug(problem)) {
    case "unknown-task":
      return new UnknownTask(detail, task, problem.known ?? []);
    case "unknown-job":
      return new UnknownJob(jobId, detail);
    case "invalid-input":
      return new InvalidInput(detail, problem.errors);
    case "queue-full":
      return new QueueFull(detail);
  }
  if ([401, 403].includes(status)) return new NotAllowed(status, problem);
  // A proxy answers so too, while the server behind it restarts.
  return [502, 503, 504].includes(status) ? new StoreUnavailable(detail) : new RequestRefused(status, problem);
}

/** The last part of a problem's `type`, which is what programs tell problems apart by. */
function slug(problem) {
  return String(problem.type ?? "").split(":").pop() ?? "";
}

// Server-sent events (HTML 9.2.5 and 9.2.6)

/** Messages out of bytes, cut anywhere. A lone carriage return, which no server in use sends, ends no
 * line. What is unfinished when the stream ends is dropped: it comes again after a resume. */
class Parser {
  /** How long the server last asked clients to wait before they come back. */
  retryMs;
  // A large event comes in many chunks: kept apart, so that each byte is copied once.
  #rest = [];
  #isFirstLine = true;
  #id = "";
  #kind = "";
  #data = [];
  #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  *feed(chunk) {
    let start = 0;
    for (let end; (end = chunk.indexOf(NEWLINE, start)) >= 0; start = end + 1) {
      const message = this.#line(this.#text(chunk.subarray(start, end)));
      if (message) yield message;
    }
    if (start < chunk.length) this.#rest.push(chunk.subarray(start));
  }

  /** A whole line, decoded at once: no character is cut in it. */
  #text(last) {
    let line = last;
    if (this.#rest.length) {
      line = joined([...this.#rest, last]);
      this.#rest = [];
    }
    const text = this.#decoder.decode(line.at(-1) === CARRIAGE_RETURN ? line.subarray(0, -1) : line);
    const isFirst = this.#isFirstLine;
    this.#isFirstLine = false;
    return isFirst && text.startsWith("\ufeff") ? text.slice(1) : text;
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "event") this.#kind = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retryMs = Number(value);
    return null;
  }

  #dispatch() {
    const message = { id: this.#id, kind: this.#kind, data: this.#data.join("\n") };
    const hasData = this.#data.length > 0;
    [this.#kind, this.#data] = ["", []];
    return hasData ? message : null;
  }
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

// Time

/** A signal that ends with the caller's own, and when what `arm` waits for does not come. */
class Limit {
  #controller = new AbortController();
  #timer;

  constructor(outer, tooLate) {
    outer?.throwIfAborted();
    this.outer = outer;
    this.tooLate = tooLate;
    outer?.addEventListener("abort", this);
  }

  get signal() {
    return this.#controller.signal;
  }

  handleEvent() {
    this.#controller.abort(this.outer?.reason);
  }

  arm(ms) {
    this.disarm();
    this.#timer = setTimeout(() => this.#controller.abort(this.tooLate()), Math.min(ms, LONGEST_TIMER_MS));
  }

  disarm() {
    clearTimeout(this.#timer);
  }

  /** Ends whatever still goes on under this signal. */
  end() {
    this.disarm();
    this.outer?.removeEventListener("abort", this);
    this.#controller.abort();
  }
}

/** When to try again after a failure, and when to give up. */
class Patience {
  #askedMs = 0;
  #failures = 0;
  #isFirst = true;
  #lostAt;

  constructor(signal) {
    this.signal = signal;
  }

  connected() {
    this.#isFirst = false;
    this.#lostAt = undefined;
  }

  /** Something arrived: the next pause is short again. */
  heard() {
    this.#failures = 0;
  }

  /** The server wants no client back before this time. */
  asked(retryMs) {
    if (retryMs !== undefined) this.#askedMs = Math.min(retryMs, MAX_PAUSE_MS);
  }

  /** Wait before the next try, or throw `error`: where the very first connection is refused (most
   * likely a wrong address), and when none could be made for PATIENCE_MS. */
  async lost(error) {
    if (!isPassing(error) || (this.#isFirst && error instanceof ServerUnreachable)) throw error;
    this.#isFirst = false;
    this.#lostAt ??= Date.now();
    if (Date.now() - this.#lostAt > PATIENCE_MS) throw error;
    await sleep(this.#nextPauseMs(), this.signal);
  }

  #nextPauseMs() {
    // Doubling, so that a server that is down is left alone; with jitter, so that the clients which
    // all lost the same server do not all come back at once.
    const doubled = Math.min(FIRST_PAUSE_MS * 2 ** Math.min(this.#failures++, 16), MAX_PAUSE_MS);
    return this.#askedMs + (0.5 + Math.random() / 2) * doubled;
  }
}

/** @returns {Promise<void>} */
function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
  });
}

// Following

/** The messages behind `cursor`, each once and in order, up to and with the `end` event. */
async function* follow(connect, cursor, patience) {
  for (;;) {
    let lost = new ConnectionLost("the server closed the stream before the job's end event");
    let stream;
    try {
      stream = await connect(cursor);
      patience.connected();
      if (stream === null) return;
      for await (const message of stream) {
        // Of a burst, too, nothing is given after the caller's signal.
        patience.signal?.throwIfAborted();
        patience.heard();
        cursor = message.id || cursor;
        yield message;
        if (message.kind === "end") return;
      }
    } catch (error) {
      lost = error;
    } finally {
      // Also when the caller leaves the loop: then the connection is closed here.
      patience.asked(stream?.retryMs);
      stream?.close();
    }
    await patience.lost(lost);
  }
}

/** What `call` resolves to, called again as long as its failures may pass. */
async function persist(call, patience) {
  for (;;) {
    try {
      const answer = await call();
      patience.connected();
      return answer;
    } catch (error) {
      await patience.lost(error);
    }
  }
}

// HTTP

/** Causes that Node gives when no connection was made. */
const NOT_CONNECTED = new Set([
  "ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "ETIMEDOUT", "UND_ERR_CONNECT_TIMEOUT",
]);

/** A whole answer. */
class Answer {
  constructor(response, text) {
    this.status = response.status;
    this.isGood = response.ok;
    this.text = text;
  }

  get json() {
    return JSON.parse(this.text);
  }

  /** The members of its problem document; none where the body is not one. */
  get problem() {
    try {
      return Object(this.json);
    } catch {
      return {};
    }
  }
}

/** The rest of an answer, whose head has come. */
async function whole(response, limit) {
  try {
    return new Answer(response, await response.text());
  } catch (error) {
    throw broken(error, limit);
  }
}

/** What an answer stands for that stopped coming. */
function broken(error, { signal }) {
  // Engines differ in what they throw then; the signal's own reason is always right.
  if (signal.aborted) return signal.reason;
  return new ConnectionLost(`the connection broke: ${told(error)}`, { cause: error });
}

/** The messages of one streamed answer; ConnectionLost where it was not closed in order. */
class Stream {
  #limit;
  #reader;
  #parser = new Parser();

  constructor(limit, reader) {
    this.#limit = limit;
    this.#reader = reader;
  }

  get retryMs() {
    return this.#parser.retryMs;
  }

  async *[Symbol.asyncIterator]() {
    for (let chunk; (chunk = await this.#read()); ) yield* this.#parser.feed(chunk);
  }

  close() {
    this.#limit.end();
  }

  /** The next chunk, undefined at the end. Only the time spent in here is silence: the caller may take
   * as long as it likes with an event. */
  async #read() {
    this.#limit.arm(SILENCE_MS);
    try {
      return (await this.#reader.read()).value;
    } catch (error) {
      throw broken(error, this.#limit);
    } finally {
      this.#limit.disarm();
    }
  }
}

/** Talks to one server. */
class Transport {
  #fetch;
  #headers;

  constructor(url, key, fetch) {
    this.url = url;
    this.#fetch = fetch;
    this.#headers = key === undefined ? {} : { Authorization: `Key ${key}` };
  }

  /** The JSON of a 2xx answer; everything else is thrown as the error that it is. */
  async json(method, path, asked = {}) {
    const answer = await this.#ask(method, path, asked);
    if (!answer.isGood) throw refusal(answer, asked);
    return answer.json;
  }

  /** How the job ended; null while it has not. */
  async outcome(jobId, signal) {
    const answer = await this.#ask("GET", pathOf(jobId, "/result"), { signal });
    if (answer.status === 202) return null;
    if (answer.isGood) return { state: "succeeded", output: answer.json };
    const { problem } = answer;
    if (["job-failed", "job-cancelled"].includes(slug(problem))) {
      return { state: slug(problem).slice("job-".length), error: problem.error };
    }
    throw refusal(answer, { jobId });
  }

  /** One connection to the event log behind `cursor`; null where the log is complete and nothing follows. */
  async connect(jobId, cursor, isFromNow, signal) {
    const limit = new Limit(signal, () => new ConnectionLost(`${this.url} was silent for ${SILENCE_MS / 1000} s`));
    try {
      limit.arm(SILENCE_MS);
      const from = isFromNow && cursor === undefined ? "?from=now" : "";
      const headers = {
        Accept: "text/event-stream",
        // Compressed events would sit in some proxy's buffer until it is full. Browsers leave this out.
        "Accept-Encoding": "identity",
        ...(cursor === undefined ? {} : { "Last-Event-ID": cursor }),
      };
      const response = await this.#send("GET", pathOf(jobId, "/stream") + from, { headers }, limit);
      if (response.status === 200) return new Stream(limit, response.body.getReader());
      const answer = await whole(response, limit);
      if (!answer.isGood) throw refusal(answer, { jobId });
      limit.end();
      return null;
    } catch (error) {
      limit.end();
      throw error;
    }
  }

  async #ask(method, path, asked) {
    const limit = new Limit(asked.signal, () => new ConnectionLost(`no answer within ${ANSWER_MS / 1000} s`));
    try {
      // An upload takes as long as it takes.
      if (!(asked.body instanceof Blob)) limit.arm(ANSWER_MS);
      const response = await this.#send(method, path, asked, limit);
      return await whole(response, limit);
    } finally {
      limit.end();
    }
  }

  async #send(method, path, asked, { signal }) {
    const { body, headers } = asked;
    const isJson = body !== undefined && !(body instanceof Blob);
    try {
      return await this.#fetch(this.url + path, {
        method,
        body: isJson ? JSON.stringify(body) : body,
        headers: { ...(isJson ? { "Content-Type": "application/json" } : {}), ...this.#headers, ...headers },
        cache: "no-store",
        signal,
      });
    } catch (error) {
      // A browser does not tell scripts why, so there it may have been either.
      const isRefused = error.cause === undefined || NOT_CONNECTED.has(error.cause.code);
      if (isRefused && !signal.aborted) throw new ServerUnreachable(this.url, error);
      throw broken(error, { signal });
    }
  }
}

function pathOf(jobId, rest = "") {
  return `/jobs/${encodeURIComponent(jobId)}${rest}`;
}

// What users have

class Job {
  #transport;

  /** @param {string} id @param {Transport} transport */
  constructor(id, transport) {
    this.id = id;
    this.#transport = transport;
  }

  /** @param {Declared.StreamOptions} [options] @returns {AsyncGenerator<Declared.Event, void, undefined>} */
  stream({ lastEventId, signal } = {}) {
    if (lastEventId !== undefined && !/^[\x20-\x7e]*$/.test(lastEventId)) {
      throw new TypeError(`not an event id: ${JSON.stringify(lastEventId.slice(0, 40))}`);
    }
    return this.#events(lastEventId, signal);
  }

  /** @param {string | undefined} cursor @param {AbortSignal | undefined} signal */
  async *#events(cursor, signal) {
    /** @param {string | undefined} cursor */
    const connect = (cursor) => this.#transport.connect(this.id, cursor, false, signal);
    for await (const { id, kind, data } of follow(connect, cursor, new Patience(signal))) {
      yield { id, kind, data: JSON.parse(data) };
    }
  }

  /** @param {Declared.ResultOptions} [options] @returns {Promise<any>} */
  async result({ timeoutMs, signal } = {}) {
    const late = `job ${this.id} has not ended within ${timeoutMs} ms`;
    const limit = new Limit(signal, () => new DOMException(late, "TimeoutError"));
    try {
      if (timeoutMs !== undefined) limit.arm(timeoutMs);
      const { state, output, error } = await this.#wait(limit.signal);
      if (state === "failed") throw new JobFailed(this.id, error);
      if (state === "cancelled") throw new JobCancelled(this.id, error);
      return output;
    } finally {
      limit.end();
    }
  }

  /** @param {AbortSignal} signal */
  async #wait(signal) {
    const patience = new Patience(signal);
    /** @param {string | undefined} cursor */
    const connect = (cursor) => this.#transport.connect(this.id, cursor, true, signal);
    for (;;) {
      const outcome = await persist(() => this.#transport.outcome(this.id, signal), patience);
      if (outcome) return outcome;
      // Only the end is waited for, so nothing is replayed: the log may be long.
      for await (const _ of follow(connect, undefined, patience));
    }
  }

  /** @param {Declared.CallOptions} [options] @returns {Promise<string>} */
  async cancel({ signal } = {}) {
    return (await this.#transport.json("POST", pathOf(this.id, "/cancel"), { signal, jobId: this.id })).state;
  }

  /** @param {Declared.CallOptions} [options] @returns {Promise<Record<string, any>>} */
  record({ signal } = {}) {
    return this.#transport.json("GET", pathOf(this.id), { signal, jobId: this.id });
  }

  /** @param {Declared.CallOptions} [options] @returns {Promise<Declared.LogLine[]>} */
  async logs({ signal } = {}) {
    const lines = [];
    for (let after = "0-0"; ; ) {
      const path = pathOf(this.id, `/logs?limit=${LARGEST_LOGS}&after=${encodeURIComponent(after)}`);
      const page = await this.#transport.json("GET", path, { signal, jobId: this.id });
      lines.push(...page.logs);
      if (page.logs.length < LARGEST_LOGS) return lines;
      after = page.cursor;
    }
  }
}

export class Client {
  #transport;

  /** @param {string} [url] @param {Declared.ClientOptions} [options] */
  constructor(url, { key, fetch } = {}) {
    const env = /** @type {any} */ (globalThis).process?.env ?? {};
    const origin = /** @type {any} */ (globalThis).location?.origin;
    this.url = (url || origin || env.RANKCAST_URL || DEFAULT_URL).replace(/\/+$/, "");
    // Called as a method of ours, the browser's own would refuse.
    const send = fetch ?? ((/** @type {Parameters<typeof globalThis.fetch>} */ ...call) => globalThis.fetch(...call));
    this.#transport = new Transport(this.url, key || env.RANKCAST_KEY || undefined, send);
  }

  /** @param {string} task @param {Record<string, unknown>} [input] @param {Declared.SubmitOptions} [options] */
  async submit(task, input = {}, { options, idempotencyKey, signal } = {}) {
    const headers = idempotencyKey === undefined ? undefined : { "Idempotency-Key": idempotencyKey };
    const body = { task, input, ...(options ? { options } : {}) };
    const { job_id } = await this.#transport.json("POST", "/jobs", { body, headers, signal, task });
    return this.job(job_id);
  }

  /** @param {string} task @param {Record<string, unknown>} [input]
   * @param {Declared.SubmitOptions & Declared.ResultOptions} [options] @returns {Promise<any>} */
  async run(task, input, { timeoutMs, ...options } = {}) {
    const job = await this.submit(task, input, options);
    return job.result({ timeoutMs, signal: options.signal });
  }

  /** @param {string} task @param {Record<string, unknown>} [input] @param {Declared.SubmitOptions} [options] */
  async *stream(task, input, options) {
    const job = await this.submit(task, input, options);
    yield* job.stream({ signal: options?.signal });
  }

  /** @param {string} id */
  job(id) {
    return new Job(id, this.#transport);
  }

  /** @param {Blob} file @param {Declared.UploadOptions} [options] @returns {Promise<Declared.FileReference>} */
  upload(file, { fileName, signal } = {}) {
    const name = fileName ?? (file instanceof File ? file.name : "file");
    return this.#transport.json("POST", `/files?file_name=${encodeURIComponent(name)}`, { body: file, signal });
  }

  /** @param {Declared.JobsOptions} [options] @returns {Promise<Record<string, any>[]>} */
  async jobs({ task, state, limit = 50, signal } = {}) {
    const asked = Object.entries({ task, state, limit }).filter(([, value]) => value !== undefined);
    const query = new URLSearchParams(asked.map(([name, value]) => [name, String(value)]));
    return (await this.#transport.json("GET", `/jobs?${query}`, { signal })).jobs;
  }

  /** @param {Declared.CallOptions} [options] @returns {Promise<Record<string, any>[]>} */
  async tasks({ signal } = {}) {
    return (await this.#transport.json("GET", "/tasks", { signal })).tasks;
  }

  /** @param {Declared.CallOptions} [options] @returns {Promise<Declared.Status>} */
  status({ signal } = {}) {
    return this.#transport.json("GET", "/workers", { signal });
  }
}
