/** A server that answers what a test wants, and what surrounds a view. */

import { Event } from '@jupyterlab/services';
import { Stream } from '@lumino/signaling';
import * as React from 'react';

import { Arguments, Client, Unreachable, Watched } from '../src/client';
import { Actions } from '../src/commands';
import { PlaceProvider } from '../src/components/place';
import { Model } from '../src/model';
import { VERSION } from '../src/version';

export const PROJECT: Watched = {
  version: VERSION,
  root: '/projects/flights',
  name: 'flights',
  stamps: { runs: '1', ledger: '1', endpoints: '1', jobs: '1', policy: '1' }
};

export type Answers = Readonly<Record<string, unknown | ((args: Arguments) => unknown)>>;

/** Answers verbs from a table; an Error in it is thrown, and `isAway` lets no answer through. */
export class FakeServer {
  readonly asked: [verb: string, args: Arguments][] = [];
  watched: Watched = PROJECT;
  isAway = false;
  /** What it says instead of watching a folder. */
  refused: Error | undefined;
  delayMs = 0;
  nWatches = 0;

  constructor(public answers: Answers = {}) {}

  get client(): Client {
    return this as unknown as Client;
  }

  async perform(verb: string, args: Arguments): Promise<unknown> {
    this.asked.push([verb, args]);
    this.check();
    const answer = this.answers[verb];
    const value = typeof answer === 'function' ? (answer as (args: Arguments) => unknown)(args) : answer;
    if (value instanceof Error) {
      throw value;
    }
    return value;
  }

  async watch(): Promise<Watched> {
    this.nWatches += 1;
    this.check();
    const answer = this.watched;
    if (this.delayMs) {
      await new Promise(resolve => setTimeout(resolve, this.delayMs));
    }
    if (this.refused) {
      throw this.refused;
    }
    return answer;
  }

  async verbs(): Promise<unknown> {
    this.check();
    return this.answers.verbs ?? [];
  }

  private check(): void {
    if (this.isAway) {
      throw new Unreachable('refused');
    }
  }
}

/** The events that a server sends. */
export function events(): Stream<unknown, Event.Emission> & Event.Stream {
  return new Stream<unknown, Event.Emission>({}) as Stream<unknown, Event.Emission> & Event.Stream;
}

export interface Stand {
  readonly server: FakeServer;
  readonly model: Model;
  readonly told: Stream<unknown, Event.Emission>;
  readonly proposed: unknown[][];
  readonly opened: unknown[][];
  readonly Around: React.FunctionComponent<{ readonly children?: React.ReactNode }>;
}

/** Everything that a view needs, the server being a double; the project is known already. */
export async function stand(answers: Answers): Promise<Stand> {
  const server = new FakeServer(answers);
  const told = events();
  const model = new Model(server.client, told);
  model.view('');
  await model.refresh();
  const [proposed, opened]: unknown[][][] = [[], []];
  const actions = {
    defaultAlias: 'champion',
    propose: async (...words: unknown[]) => void proposed.push(words),
    openPage: (...words: unknown[]) => void opened.push(words),
    openView: () => undefined,
    openFile: (...words: unknown[]) => void opened.push(words),
    insert: () => undefined
  } as unknown as Actions;
  const rendermime = { mimeTypes: [] } as never;
  const Around = ({ children }: { readonly children?: React.ReactNode }): JSX.Element => (
    <PlaceProvider value={{ model, actions, rendermime, folder: '', isSeen: true }}>{children}</PlaceProvider>
  );
  return { server, model, told, proposed, opened, Around };
}
