/** What the sidebar knows: where the person is, which projects are watched, and what has changed in their stores. */

import { Event } from '@jupyterlab/services';
import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { IPoll, Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import { Arguments, Client, Refusal, Unreachable, Watched } from './client';
import { EVENT } from './tokens';
import { Results, VerbName, VerbSchema } from './types';
import { VERSION } from './version';

/** The parts of a project's state of which a change is told apart. */
export type Topic = 'runs' | 'ledger' | 'endpoints' | 'jobs' | 'policy';

/** How it stands with the server. */
export type Connection = 'connecting' | 'live' | 'lost' | 'outdated';

/** Stores of one project that have changed. */
export interface Change {
  readonly root: string;
  readonly topics: ReadonlySet<string>;
}

/** What other extensions may see. */
export interface IModel {
  readonly folder: string;
  readonly connection: Connection;
  readonly changed: ISignal<IModel, void>;
  readonly told: ISignal<IModel, Change>;
}

const RETRY_MS = 1000;

/** Follows the projects that somebody looks at; asks nothing while nobody does. */
export class Model implements IModel, IDisposable {
  readonly changed = new Signal<this, void>(this);
  readonly told = new Signal<this, Change>(this);

  constructor(
    private readonly client: Client,
    events: Event.Stream,
    private refreshS = 10
  ) {
    events.connect(this.hear, this);
    this.poll = new Poll({
      name: 'nbmlops:watch',
      auto: false,
      factory: () => this.watchAll(),
      frequency: every(refreshS * 1000),
      standby: () => document.hidden || this.viewers.size === 0
    });
    this.stop = () => events.disconnect(this.hear, this);
  }

  /** The folder where the person is, below the server's root. */
  get folder(): string {
    return this._folder;
  }

  /** The notebook in front of the person, by its path below the server's root; empty where there is none. */
  get notebook(): string {
    return this._notebook;
  }

  get connection(): Connection {
    return this._connection;
  }

  /** Why there is no answer, as it was found last. */
  get trouble(): string {
    return this._trouble;
  }

  /** The version that the server runs, as it was heard last. */
  get serverVersion(): string {
    return this._serverVersion;
  }

  get isDisposed(): boolean {
    return this.poll.isDisposed;
  }

  /** What the server has said of a folder's project; undefined until it has. */
  project(folder = this._folder): Watched | undefined {
    return this.watched.get(folder);
  }

  /** Why the server says nothing of a folder's project, where it will not. */
  refusal(folder: string): Refusal | undefined {
    return this.refusals.get(folder);
  }

  /** Go where the person is now. */
  go(folder: string, notebook: string): void {
    if (folder !== this._folder || notebook !== this._notebook) {
      [this._folder, this._notebook] = [folder, notebook];
      this.changed.emit();
    }
  }

  /** Watch a folder's project for as long as somebody looks at it. */
  view(folder: string): IDisposable {
    this.viewers.set(folder, (this.viewers.get(folder) ?? 0) + 1);
    void this.poll.start();
    if (this.viewers.get(folder) === 1) {
      void this.poll.schedule({ interval: Poll.IMMEDIATE, phase: 'refreshed' }); // also while a look at others is under way
    }
    return new DisposableDelegate(() => {
      const left = (this.viewers.get(folder) ?? 1) - 1;
      left ? this.viewers.set(folder, left) : this.viewers.delete(folder);
    });
  }

  /** Look at once, and have every view ask anew. */
  async refresh(): Promise<void> {
    await this.poll.refresh();
    await this.poll.tick;
    this.tellAll();
  }

  /** Look every so many seconds, whatever the server tells by itself. */
  setRefresh(seconds: number): void {
    this.refreshS = seconds;
    this.poll.frequency = every(seconds * 1000);
  }

  /** Perform a verb; that no answer came is noticed here for everybody. */
  async perform<V extends VerbName>(verb: V, args: Arguments, folder = this._folder): Promise<Results[V]> {
    try {
      return await this.client.perform(verb, args, folder);
    } catch (error) {
      if (error instanceof Unreachable) {
        this.lose(error);
        void this.poll.refresh(); // the next look may be far, and after this one they are a second apart
      }
      throw error;
    }
  }

  /** The verbs with their schemas, asked for once. */
  verbs(): Promise<readonly VerbSchema[]> {
    this.listed ??= this.client.verbs().catch(error => {
      this.listed = undefined;
      throw error;
    });
    return this.listed;
  }

  dispose(): void {
    this.stop();
    this.poll.dispose();
    Signal.clearData(this);
  }

  private async watchAll(): Promise<void> {
    const folders = [...this.viewers.keys()];
    try {
      await Promise.all(folders.map(folder => this.watch(folder)));
    } catch (error) {
      if (error instanceof Unreachable) {
        this.lose(error);
      }
      throw error;
    }
  }

  private async watch(folder: string): Promise<void> {
    let now: Watched;
    try {
      now = await this.client.watch(folder);
    } catch (error) {
      if (!(error instanceof Refusal)) {
        throw error;
      }
      this.refuse(folder, error);
      return;
    }
    this.refusals.delete(folder);
    this.take(folder, now);
  }

  /** A folder that is gone has no project; of any other it is told why nobody may look there. */
  private refuse(folder: string, refusal: Refusal): void {
    const version = this._serverVersion || VERSION;
    if (refusal.status === 404) {
      this.take(folder, { version, root: null, name: '', stamps: {} });
    } else if (this.refusals.get(folder)?.message !== refusal.message) {
      this.refusals.set(folder, refusal);
      this.changed.emit();
    }
  }

  private take(folder: string, now: Watched): void {
    const before = this.watched.get(folder);
    const wasLost = this._connection === 'lost';
    this.watched.set(folder, now);
    this._serverVersion = now.version;
    const connection = now.version === VERSION ? 'live' : 'outdated';
    const isNews = connection !== this._connection || before?.root !== now.root || before?.name !== now.name;
    this._connection = connection;
    if (wasLost) {
      this.setRefresh(this.refreshS);
    }
    if (isNews) {
      this.changed.emit();
    }
    if (wasLost) {
      this.tellAll();
    } else if (now.root !== null && before) {
      const topics = differing(before.stamps, now.stamps);
      topics.size && this.told.emit({ root: now.root, topics });
    }
  }

  /** Have every view ask anew. */
  private tellAll(): void {
    for (const root of new Set([...this.watched.values()].map(each => each.root))) {
      root !== null && this.told.emit({ root, topics: ALL });
    }
  }

  private lose({ message }: Unreachable): void {
    const isNews = this._connection !== 'lost' || this._trouble !== message;
    this._trouble = message;
    if (this._connection !== 'lost') {
      this._connection = 'lost';
      this.listed = undefined;
      this.poll.frequency = every(RETRY_MS);
    }
    isNews && this.changed.emit();
  }

  private hear(_: unknown, event: Event.Emission): void {
    if (event.schema_id !== EVENT) {
      return;
    }
    const { root, stamps } = event as unknown as { root: string; stamps: Readonly<Record<string, string>> };
    const topics = new Set<string>();
    for (const [folder, known] of this.watched) {
      if (known.root === root) {
        differing(known.stamps, stamps).forEach(topic => topics.add(topic));
        this.watched.set(folder, { ...known, stamps });
      }
    }
    topics.size && this.told.emit({ root, topics });
  }

  private _folder = '';
  private _notebook = '';
  private _connection: Connection = 'connecting';
  private _serverVersion = '';
  private _trouble = '';
  private listed: Promise<readonly VerbSchema[]> | undefined;
  private readonly watched = new Map<string, Watched>();
  private readonly refusals = new Map<string, Refusal>();
  private readonly viewers = new Map<string, number>();
  private readonly poll: Poll<void, unknown, 'standby'>;
  private readonly stop: () => void;
}

const ALL: ReadonlySet<string> = new Set<Topic>(['runs', 'ledger', 'endpoints', 'jobs', 'policy']);

function every(ms: number): IPoll.Frequency {
  return { interval: ms, max: ms, backoff: false };
}

function differing(before: Watched['stamps'], now: Watched['stamps']): ReadonlySet<string> {
  return new Set(Object.keys(now).filter(topic => now[topic] !== before[topic]));
}
