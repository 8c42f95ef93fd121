/** One entry of a job's event log. */
export interface Event {
  /** Its place there, opaque, and what `stream({ lastEventId })` takes. */
  id: string;
  /** "" for what the task streamed, else "state", "checkpoint" (the task saved one), "end" (exactly one,
   * the last), "gap" (events that were asked for are no longer kept) or "reset" (the log was lost and
   * begins anew). */
  kind: string;
  /** Its JSON. Whole numbers past 2^53 are rounded, as JSON.parse does. */
  data: any;
}

/** One line that a rank printed. */
export interface LogLine {
  id: string;
  rank: number;
  host: string;
  stream: "stdout" | "stderr";
  text: string;
  /** Milliseconds since the epoch. */
  ts_ms: number;
}

/** Why a job failed or was cancelled; all but the first two as far as they are known. */
export interface JobErrorInfo {
  kind: string;
  message: string;
  rank?: number;
  type?: string;
  traceback?: string;
  exitcode?: number;
  signal?: string;
}

export interface CallOptions {
  /** Ends the call at once; it throws the signal's reason. The job goes on. */
  signal?: AbortSignal;
}

export interface ClientOptions {
  /** The API key; default: RANKCAST_KEY, in Node. */
  key?: string;
  /** Used instead of the global one, to go through a proxy for example. */
  fetch?: typeof globalThis.fetch;
}

export interface SubmitOptions extends CallOptions {
  /** priority (0 first … 9 last), start_timeout_s, timeout_s, total_timeout_s, ttl_s. */
  options?: {
    priority?: number;
    start_timeout_s?: number;
    timeout_s?: number;
    total_timeout_s?: number;
    ttl_s?: number;
  };
  /** The same submit under the same key (1 to 255 printable ASCII characters) gives the job of the first. */
  idempotencyKey?: string;
}

export interface StreamOptions extends CallOptions {
  /** Begin behind this event instead of at the start. */
  lastEventId?: string;
}

export interface ResultOptions extends CallOptions {
  /** Throw a DOMException named TimeoutError if the job has not ended by then; it goes on. */
  timeoutMs?: number;
}

export interface JobsOptions extends CallOptions {
  task?: string;
  state?: "queued" | "starting" | "running" | "succeeded" | "failed" | "cancelled";
  /** Default 50. */
  limit?: number;
}

export interface UploadOptions extends CallOptions {
  /** Default: the name of a File, else "file". */
  fileName?: string;
}

/** A file that the server keeps for a while. */
export interface FileReference {
  /** What an input names it by. */
  url: string;
  content_type: string;
  file_name: string;
  file_size: number;
}

/** The live workers, their slots and what runs there; the length of each queue. */
export interface Status {
  workers: Record<string, any>[];
  queues: Record<string, any>[];
}

/** A Rankcast server at `url`. Default: in a browser the page's own origin, in Node RANKCAST_URL, else
 * http://127.0.0.1:8700. */
export class Client {
  constructor(url?: string, options?: ClientOptions);
  readonly url: string;

  /** Queue a job. UnknownTask, InvalidInput (with `faults`), QueueFull, StoreUnavailable,
   * ServerUnreachable; ConnectionLost leaves open whether it was queued: repeat it under its
   * `idempotencyKey`. */
  submit(task: string, input?: Record<string, unknown>, options?: SubmitOptions): Promise<Job>;
  /** Submit, and wait for the output; as `submit` and `Job.result`. */
  run(task: string, input?: Record<string, unknown>, options?: SubmitOptions & ResultOptions): Promise<any>;
  /** Submit, and watch; as `submit` and `Job.stream`. */
  stream(
    task: string,
    input?: Record<string, unknown>,
    options?: SubmitOptions,
  ): AsyncGenerator<Event, void, undefined>;
  /** The job of that id; nothing is asked yet, so it may not exist. */
  job(id: string): Job;
  /** Store a file on the server, for an input to name by the `url` of what this gives. It takes as long
   * as it takes: `signal` may end it. */
  upload(file: Blob, options?: UploadOptions): Promise<FileReference>;
  /** Records of the newest `limit` jobs, newest first, of one task or in one state if asked. */
  jobs(options?: JobsOptions): Promise<Record<string, any>[]>;
  /** Every task that a worker ever registered: name, schemas, world_size, live workers. */
  tasks(options?: CallOptions): Promise<Record<string, any>[]>;
  status(options?: CallOptions): Promise<Status>;
}

/** One submission of a task, by its id. Holds no state: every call asks. */
export interface Job {
  readonly id: string;

  /** Every event of the job, in order, each once: those behind `lastEventId`, then live.
   *
   * Broken connections are resumed by themselves. Ends after the `end` event, and at once if that is
   * `lastEventId`. Leaving the loop closes the connection. ServerUnreachable if the first connection
   * cannot be made (or none for five minutes), UnknownJob if there is no such job (any more), the
   * signal's reason when that ends it. */
  stream(options?: StreamOptions): AsyncGenerator<Event, void, undefined>;
  /** Wait for the job to end; its output. JobFailed or JobCancelled if it ended so. */
  result(options?: ResultOptions): Promise<any>;
  /** The job as the server has it: state, attempt, queue_position, progress, times, error. */
  record(options?: CallOptions): Promise<Record<string, any>>;
  /** Ask for the job to be cancelled; the state it is in now. Cancelling twice is no error. */
  cancel(options?: CallOptions): Promise<string>;
  /** What the job's ranks printed so far, oldest first. */
  logs(options?: CallOptions): Promise<LogLine[]>;
}

/** Every error of this module; `name` is the name of its class. */
export class RankcastError extends Error {}

/** Nothing answers at that address. */
export class ServerUnreachable extends RankcastError {
  readonly url: string;
}

/** It answered, then the connection broke; whether the request took effect is not known. */
export class ConnectionLost extends RankcastError {}

/** Redis is away, or a proxy finds no server: nothing was queued. */
export class StoreUnavailable extends RankcastError {}

/** The task's queue is full. */
export class QueueFull extends RankcastError {}

/** No worker ever registered that task; `known` are those that were. */
export class UnknownTask extends RankcastError {
  readonly task: string;
  readonly known: string[];
}

/** The input does not fit the task's schema: every fault, with its JSONPath. */
export class InvalidInput extends RankcastError {
  readonly faults: { path: string; message: string }[];
}

/** Any other answer that is not 2xx; `problem` has its RFC 9457 members. */
export class RequestRefused extends RankcastError {
  readonly status: number;
  readonly problem: Record<string, any>;
}

/** The server asks for a key and got none, or one that it does not know (`status` 401), or one that may not
 * do this (403). */
export class NotAllowed extends RequestRefused {}

export class JobError extends RankcastError {
  readonly jobId: string;
}

/** There is no such job (any more). */
export class UnknownJob extends JobError {}

/** The job ended `failed`; `error` says why. */
export class JobFailed extends JobError {
  readonly error: JobErrorInfo;
}

/** The job ended `cancelled`. */
export class JobCancelled extends JobError {
  readonly error: JobErrorInfo;
}
