import { describe, expect, it } from 'vitest';

import { curves } from '../src/curves';
import { Run } from '../src/types';

function run(id: string, losses: readonly number[], steps: readonly number[]): Run {
  return { run_id: id, name: 'fit', curves: { loss: losses }, steps: { loss: steps } } as unknown as Run;
}

describe('curves', () => {
  it('stand over the steps at which their values were logged, so that short and long runs can be compared', () => {
    const { data } = curves('loss', [run('aaaa', [1, 0.5], [0, 10]), run('bbbb', [1, 0.9, 0.8], [0, 50, 100])]);
    expect((data as { values: { run: string; step: number }[] }).values.map(each => [each.run, each.step])).toEqual([
      ['fit aaaa', 0],
      ['fit aaaa', 10],
      ['fit bbbb', 0],
      ['fit bbbb', 50],
      ['fit bbbb', 100]
    ]);
  });

  it('are told apart by colour where there are several', () => {
    expect(Object.keys(curves('loss', [run('a', [1, 2], [0, 1])]).encoding as object)).toEqual(['x', 'y']);
  });
});
