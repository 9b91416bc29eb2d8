/** Values as short text. */

import { describe, expect, it } from 'vitest';

import { mending } from '../src/components/header';
import { path } from '../src/components/sparkline';
import { toneOf } from '../src/components/chip';
import { known, PAGE } from '../src/components/paged';
import { kindOf, missing, parsed, typed } from '../src/components/form';
import { oneOf } from '../src/pages/comparison';
import { ago, ahead, cell, isLowerBetter, lasted, number, plain } from '../src/words';
import { Run, VerbSchema } from '../src/types';

describe('words', () => {
  it('keep four digits of a number, and all of a whole one', () => {
    expect([0.7234567, 12345, 0.00001234, 0, -1.5, 'NaN'].map(number)).toEqual([
      '0.7235',
      '12,345',
      '1.23e-5',
      '0',
      '-1.5',
      'NaN'
    ]);
  });

  it('tell how long ago, and how long yet', () => {
    const now = Date.parse('2013-06-30T12:00:00Z');
    expect(ago('2013-06-30T11:59:55Z', now)).toBe('5.0 s ago');
    expect(ago('2013-06-29T12:00:00Z', now)).toBe('24 h ago');
    expect(ago(null, now)).toBe('');
    expect(ahead('2013-06-30T13:00:00Z', now)).toBe('in 60 min');
    expect(lasted(200)).toBe('3 min');
  });

  it('cut what is long, and show what would turn a line around', () => {
    expect(plain('a'.repeat(1_000_000))).toHaveLength(301);
    expect(plain('abc\u202edef\u0000')).toBe('abc\ufffddef\ufffd');
    expect(cell({ auc: 0.5, ok: true })).toBe('auc 0.5, ok yes');
  });

  it('know which metrics are better low', () => {
    expect(['loss', 'val_rmse', 'latency_ms', 'auc', 'accuracy'].map(isLowerBetter)).toEqual([
      true,
      true,
      true,
      false,
      false
    ]);
  });

  it('tell the side that is to be started anew', () => {
    expect(mending('0.2.0', '0.10.0')).toContain('Reload the page');
    expect(mending('0.10.0', '0.2.0')).toContain('jupyter lab');
  });

  it('see a state by its first word', () => {
    expect(['FINISHED', 'failed: 2 checks', 'run: new', 'RUNNING'].map(toneOf)).toEqual([
      'good',
      'bad',
      'plain',
      'busy'
    ]);
  });
});

describe('a form', () => {
  const property = (of: object): never => ({ description: '', ...of }) as never;

  it('knows what to ask for', () => {
    const kinds = [
      { type: 'boolean' },
      { anyOf: [{ type: 'integer' }, { type: 'null' }] },
      { type: 'array', items: { type: 'string' } },
      { type: 'object' },
      { enum: ['one', 'all'], type: 'string' },
      { anyOf: [{ type: 'string' }, { type: 'null' }] },
      {}
    ].map(each => kindOf(property(each)));
    expect(kinds).toEqual(['yes or no', 'number', 'list', 'pairs', 'choice', 'text', 'text']);
  });

  it('gives back what was typed', () => {
    for (const [kind, value] of [
      ['number', 3],
      ['list', ['a', 'b c']],
      ['pairs', { month: '3', note: 'a=b' }],
      ['text', 'delays/3']
    ] as const) {
      expect(parsed(kind, typed(value))).toEqual(value);
    }
    expect([parsed('number', 'many'), parsed('text', ''), parsed('list', ' \n')]).toEqual(Array(3).fill(undefined));
  });

  it('names what is needed', () => {
    const schema = { arguments: { properties: {}, required: ['model', 'to'] } } as unknown as VerbSchema;
    expect(missing(schema, { model: 'delays/3', to: '' })).toEqual(['to']);
  });
});

describe('pictures and pages', () => {
  it('draw a curve from the lowest to the highest value, with a gap for what is not finite', () => {
    expect(path([0, 1])).toBe('M0.0 15.0L60.0 1.0');
    expect(path([0, 'NaN', 1])).toBe('M0.0 15.0M60.0 1.0');
  });

  it('know a listing as far as it was asked for', () => {
    const run = {} as Run;
    expect(known(new Map()).n).toBe(0);
    expect(known(new Map([[0, Array<Run>(PAGE).fill(run)]])).n).toBe(2 * PAGE);
    const two = new Map([
      [0, Array<Run>(PAGE).fill(run)],
      [1, [run]]
    ]);
    expect([known(two).n, known(two).at(PAGE), known(two).at(PAGE + 1)]).toEqual([PAGE + 1, run, undefined]);
  });

  it('ask for runs by ids alone', () => {
    expect(oneOf(['ab12', "x') or ('1'='1"])).toBe("attributes.run_id IN ('ab12')");
  });
});
