/** The line that a call stands for: the same cases are parsed back by Python's tests. */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

import { line, quoted } from '../src/line';
import { VerbSchema } from '../src/types';

interface Case {
  readonly verb: string;
  readonly arguments: Record<string, unknown>;
  readonly line: string;
}

const read = (path: string): never => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as never;
const schemas: readonly VerbSchema[] = read('./schemas.json');
const cases: readonly Case[] = read('../../tests/surfaces/lines.json');

describe('a line', () => {
  it.each(cases)('$line', ({ verb, arguments: given, line: expected }) => {
    const schema = schemas.find(each => each.name === verb);
    expect(schema && line(schema, given)).toBe(`%mlops ${expected}`);
  });

  it('quotes what a shell would take apart, and cannot be left by a quotation mark', () => {
    expect(quoted('delays/3')).toBe('delays/3');
    expect(quoted('better in June')).toBe("'better in June'");
    expect(quoted("it's")).toBe(`'it'"'"'s'`);
    expect(quoted('')).toBe("''");
    expect(quoted('Zürich')).toBe("'Zürich'");
  });
});
