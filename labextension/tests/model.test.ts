/** What the model does when stores change, a server goes away and comes back, or nobody looks. */

import { afterEach, describe, expect, it, vi } from 'vitest';

import { Refusal } from '../src/client';
import { Change, Model } from '../src/model';
import { EVENT } from '../src/tokens';
import { events, FakeServer, PROJECT } from './doubles';

function told(model: Model): Change[] {
  const changes: Change[] = [];
  model.told.connect((_, change) => void changes.push(change));
  return changes;
}

const emission = (stamps: Record<string, string>, root = '/projects/flights'): never =>
  ({ schema_id: EVENT, root, stamps }) as never;

afterEach(() => vi.useRealTimers());

describe('the model', () => {
  it('learns the project of the folder that is looked at', async () => {
    const model = new Model(new FakeServer().client, events());
    expect(model.connection).toBe('connecting');
    model.view('');
    await model.refresh();
    expect(model.connection).toBe('live');
    expect(model.project()?.name).toBe('flights');
  });

  it('tells which stores an event is about, and nothing when they are as they were', async () => {
    const stream = events();
    const model = new Model(new FakeServer().client, stream);
    model.view('');
    await model.refresh();
    const changes = told(model);
    stream.emit(emission({ ...PROJECT.stamps, runs: '2' }));
    stream.emit(emission({ ...PROJECT.stamps, runs: '2' }));
    stream.emit(emission({ ...PROJECT.stamps, runs: '9' }, '/projects/another'));
    stream.emit({ schema_id: 'of somebody else', root: '/projects/flights', stamps: {} } as never);
    expect(changes.map(change => [...change.topics])).toEqual([['runs']]);
  });

  it('finds by its slow look what no event has told', async () => {
    const server = new FakeServer();
    const model = new Model(server.client, events());
    model.view('');
    await model.refresh();
    const changes = told(model);
    server.watched = { ...PROJECT, stamps: { ...PROJECT.stamps, ledger: '2' } };
    await model.refresh();
    expect([...changes[0].topics]).toEqual(['ledger']);
  });

  it('asks nothing while nobody looks', async () => {
    vi.useFakeTimers();
    const server = new FakeServer();
    const model = new Model(server.client, events(), 1);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(server.nWatches).toBe(0);
    const looking = model.view('');
    await vi.advanceTimersByTimeAsync(5_000);
    expect(server.nWatches).toBeGreaterThan(3);
    looking.dispose();
    await vi.advanceTimersByTimeAsync(1_000);
    const before = server.nWatches;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.nWatches).toBe(before);
  });

  it('says that the server is away, asks every second, and has everything asked anew when it is back', async () => {
    vi.useFakeTimers();
    const server = new FakeServer();
    const model = new Model(server.client, events(), 30);
    model.view('');
    await vi.advanceTimersByTimeAsync(100);
    server.isAway = true;
    await expect(model.perform('models', {})).rejects.toThrow('refused');
    expect([model.connection, model.trouble]).toEqual(['lost', 'refused']);
    const changes = told(model);
    const before = server.nWatches;
    await vi.advanceTimersByTimeAsync(3_500);
    expect(server.nWatches - before).toBeGreaterThanOrEqual(3);
    server.isAway = false;
    await vi.advanceTimersByTimeAsync(1_500);
    expect(model.connection).toBe('live');
    expect(changes.at(-1)?.topics.has('runs')).toBe(true);
    expect(changes.at(-1)?.topics.has('ledger')).toBe(true);
  });

  it('has every project asked anew when the server is back, whichever answers first', async () => {
    vi.useFakeTimers();
    const server = new FakeServer();
    const model = new Model(server.client, events());
    for (const [folder, root] of [
      ['a', '/a'],
      ['b', '/b']
    ]) {
      server.watched = { ...PROJECT, root };
      const looking = model.view(folder);
      await vi.advanceTimersByTimeAsync(100);
      folder === 'a' && looking.dispose();
    }
    server.isAway = true;
    await expect(model.perform('models', {}, 'a')).rejects.toThrow();
    const changes = told(model);
    server.isAway = false;
    await vi.advanceTimersByTimeAsync(1_500);
    expect(changes.map(change => change.root).sort()).toEqual(['/a', '/b']);
  });

  it('looks at a folder at once, also while a look at another is under way', async () => {
    vi.useFakeTimers();
    const server = new FakeServer();
    const model = new Model(server.client, events(), 30);
    server.delayMs = 1_000;
    model.view('slow');
    await vi.advanceTimersByTimeAsync(500);
    model.view('asked meanwhile');
    await vi.advanceTimersByTimeAsync(2_000);
    expect(model.project('asked meanwhile')?.name).toBe('flights');
    expect(model.project('slow')?.name).toBe('flights');
  });

  it('says why nobody may look at a folder, until somebody may', async () => {
    const server = new FakeServer();
    const model = new Model(server.client, events());
    server.refused = new Refusal({ type: 'UsageError', message: 'It lies outside.', hint: '', exit_code: 2 }, 400);
    model.view('beyond');
    await model.refresh();
    expect(model.refusal('beyond')?.message).toBe('It lies outside.');
    expect(model.project('beyond')).toBeUndefined();
    server.refused = undefined;
    await model.refresh();
    expect(model.refusal('beyond')).toBeUndefined();
    expect(model.project('beyond')?.name).toBe('flights');
  });

  it('notices another version on the other side', async () => {
    const server = new FakeServer();
    server.watched = { ...PROJECT, version: '9.9.9' };
    const model = new Model(server.client, events());
    model.view('');
    await model.refresh();
    expect([model.connection, model.serverVersion]).toEqual(['outdated', '9.9.9']);
  });

  it('asks for the verbs once, and again after a failure', async () => {
    const server = new FakeServer({ verbs: [{ name: 'runs' }] });
    const model = new Model(server.client, events());
    server.isAway = true;
    await expect(model.verbs()).rejects.toThrow();
    server.isAway = false;
    expect(await model.verbs()).toBe(await model.verbs());
  });
});
