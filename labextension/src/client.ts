/** The only file that asks the server. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { Failure, Results, VerbName, VerbSchema } from './types';

/** What the server says of a folder's project; `root` is null where there is none. */
export interface Watched {
  readonly version: string;
  readonly root: string | null;
  readonly name: string;
  readonly stamps: Readonly<Record<string, string>>;
}

/** What the arguments of a verb are, as JSON. */
export type Arguments = Readonly<Record<string, unknown>>;

/** An answer that is no: the error as every surface tells it. */
export class Refusal extends Error {
  constructor(
    readonly failure: Failure,
    readonly status: number
  ) {
    super(failure.message);
    this.name = failure.type;
  }
}

/** No answer at all: the server is away, or something between is; the message says which. */
export class Unreachable extends Error {}

/** Asks the server's routes. */
export class Client {
  constructor(private readonly settings: ServerConnection.ISettings = ServerConnection.makeSettings()) {}

  /** List the verbs with the schemas of their arguments. */
  verbs(): Promise<readonly VerbSchema[]> {
    return this.ask('GET', 'verbs') as Promise<readonly VerbSchema[]>;
  }

  /** Perform a verb in a folder below the server's root. */
  perform<V extends VerbName>(verb: V, args: Arguments, folder: string): Promise<Results[V]> {
    return this.ask('POST', `verbs/${verb}`, { arguments: args, folder }) as Promise<Results[V]>;
  }

  /** Ask which project a folder belongs to, and have the server watch it for a minute. */
  watch(folder: string): Promise<Watched> {
    return this.ask('POST', 'watch', { folder }) as Promise<Watched>;
  }

  private async ask(method: string, route: string, body?: object): Promise<unknown> {
    const url = URLExt.join(this.settings.baseUrl, 'nbmlops', route);
    const init = { method, body: body && JSON.stringify(body) };
    let answer: Response;
    let text: string;
    try {
      answer = await ServerConnection.makeRequest(url, init, this.settings);
      text = await answer.text();
    } catch {
      throw new Unreachable('The Jupyter server does not answer.');
    }
    return parsed(text, answer);
  }
}

function parsed(text: string, answer: Response): unknown {
  let body: unknown;
  try {
    body = JSON.parse(text, bare);
  } catch {
    throw new Unreachable(`Something between here and nbmlops answered ${answer.status}.`);
  }
  if (answer.ok) {
    return body;
  }
  if (answer.status === 404 && !isFailure(body)) {
    throw new Unreachable('This Jupyter server has no nbmlops: jupyter server extension enable nbmlops');
  }
  throw new Refusal(isFailure(body) ? body.error : foreign(answer), answer.status);
}

/** Names in a store are anybody's: an object of an answer has its own ones alone, and no `constructor` besides. */
function bare(_: string, value: unknown): unknown {
  const isRecord = typeof value === 'object' && value !== null && !Array.isArray(value);
  return isRecord ? (Object.setPrototypeOf(value, null) as unknown) : value;
}

function isFailure(body: unknown): body is { error: Failure } {
  return typeof body === 'object' && body !== null && typeof (body as { error?: unknown }).error === 'object';
}

function foreign(answer: Response): Failure {
  return { type: 'NbmlopsError', message: `The server answered ${answer.status}.`, hint: '', exit_code: 1 };
}
