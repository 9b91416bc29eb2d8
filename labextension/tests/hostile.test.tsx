/** What somebody else could have written: names that every object has, signs that nobody sees, texts without end. */

import { ServerConnection } from '@jupyterlab/services';
import { cleanup, fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';
import { afterEach, describe, expect, it, vi } from 'vitest';

import { Client, Refusal } from '../src/client';
import { Problem } from '../src/components/answer';
import { Card } from '../src/components/card';
import { Report } from '../src/components/gate';
import { Proposal } from '../src/components/proposal';
import { GateReport, VerbSchema } from '../src/types';
import { isOneLine, lines, number, own, plain, words } from '../src/words';
import { stand } from './doubles';

afterEach(cleanup);

const HUGE = 'M'.repeat(1_000_000);
const TURNED = 'model\u202eexe.\u2066';
const INHERITED = ['constructor', '__proto__', 'toString', 'hasOwnProperty'];

describe('words', () => {
  it('show no sign that nobody sees, whatever they are made of', () => {
    for (const shown of [plain(TURNED), number(TURNED), words(TURNED), lines(`a\n${TURNED}`)]) {
      expect(isOneLine(shown.replace('\n', ''))).toBe(true);
    }
    expect([number(HUGE), words(HUGE), lines(HUGE)].map(each => each.length < 3000)).toEqual([true, true, true]);
    expect(lines(Array(5000).fill('line').join('\n')).split('\n')).toHaveLength(2001);
  });

  it('show what should be a text and is none', () => {
    expect([{ a: 1 }, [TURNED], 5, null].map(each => plain(each as unknown as string))).toEqual([
      '{"a":1}',
      '["model\ufffdexe.\ufffd"]',
      '5',
      'null'
    ]);
  });

  it('know what stays one line in a notebook', () => {
    expect(isOneLine("%mlops show 'a name'")).toBe(true);
    for (const end of ['\n', '\r', '\u000b', '\u000c', '\u001c', '\u0085', '\u2028', '\u2029', '\t', '\u202e']) {
      expect(isOneLine(`%mlops show 'a${end}import os'`)).toBe(false);
    }
  });

  it('hold nothing under names that every object has', () => {
    expect(INHERITED.map(name => own({ auc: 1 }, name))).toEqual(INHERITED.map(() => undefined));
    expect(own({ constructor: 1 } as Record<string, unknown>, 'constructor')).toBe(1);
  });
});

describe('answers of the server', () => {
  it('have their own names alone', async () => {
    const body = '[{"curves": {"auc": [1], "__proto__": [2]}}]';
    const fetch = vi.fn(async () => new Response(body, { status: 200 }));
    const settings = ServerConnection.makeSettings({ baseUrl: 'http://here/', fetch });
    const [{ curves }] = (await new Client(settings).perform('runs', {}, '')) as never as [{ curves: object }];
    expect(Object.entries(curves)).toEqual([
      ['auc', [1]],
      ['__proto__', [2]]
    ]);
    expect(INHERITED.filter(name => name in curves)).toEqual(['__proto__']);
  });
});

describe('components', () => {
  it('cut and clean errors', () => {
    const failure = { type: TURNED, message: `${TURNED}${HUGE}`, hint: HUGE, exit_code: 1 };
    render(<Problem error={new Refusal(failure, 400)} />);
    const told = screen.getByRole('alert').textContent ?? '';
    expect(told.length).toBeLessThan(5000);
    expect(isOneLine(told)).toBe(true);
  });

  it('cut and clean texts, names and values of results', () => {
    const { container } = render(
      <>
        <Card result={`${TURNED}\n${HUGE}`} />
        <Card result={{ [TURNED + HUGE]: [{ [TURNED]: HUGE, [HUGE]: TURNED }] }} />
      </>
    );
    expect(container.textContent!.length).toBeLessThan(5000);
    expect(container.textContent).not.toMatch(/[\u202e\u2066]/);
  });

  it('show a report whose words are names that every object has', () => {
    const check = { name: 'a', value: 1, limit: 1, champion: null, lower: null, upper: null, n: 1, note: '' };
    const checks = INHERITED.map(each => ({ ...check, status: each, condition: each }));
    const told = { model: 'm', version: '1', digest: 'd', gate: 'g', data: 'd', champion: '', n: 1 };
    render(<Report report={{ ...told, passed: false, checks, dry_run: false } as unknown as GateReport} />);
    expect(screen.getAllByRole('row')).toHaveLength(1 + INHERITED.length);
  });
});

const SCHEMA = {
  name: 'promote',
  summary: 'Point an alias at a version.',
  effect: 'write',
  group: 'models',
  arguments: { type: 'object', properties: { model: { type: 'string', option: null } }, required: ['model'] }
} as unknown as VerbSchema;

describe('a proposal', () => {
  const open = async (model: string): Promise<{ perform: ReturnType<typeof vi.fn> }> => {
    const { Around } = await stand({});
    const perform = vi.fn(async () => ({}));
    const given = { schema: SCHEMA, perform, insert: vi.fn(), close: vi.fn() };
    render(<Proposal {...given} args={{ model }} />, { wrapper: Around });
    return { perform };
  };

  it('offers no line that would be more than one line of a notebook', async () => {
    await open("x'\nimport os #");
    expect(screen.queryByRole('button', { name: 'Insert into notebook' })).toBeNull();
    expect(screen.getByText(/cannot stand in a notebook/)).toBeTruthy();
  });

  it('keeps a value that cannot be shown as it is, and shows its beginning', async () => {
    const { perform } = await open(HUGE);
    const field = screen.getByRole('textbox');
    expect(field.getAttribute('value')!.length).toBeLessThan(3000);
    expect(field.hasAttribute('readonly')).toBe(true);
    expect(document.body.textContent!.length).toBeLessThan(5000);
    fireEvent.submit(screen.getByRole('form'));
    expect(perform).toHaveBeenCalledWith({ model: HUGE });
  });
});
