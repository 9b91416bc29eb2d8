/** What gates have found about versions: the outcome as a chip, the report in full. */

import * as React from 'react';

import { GateReport, ListedVersion, ValidationCheck } from '../types';
import { number, own, plain, words } from '../words';
import { Chip } from './chip';
import { Table } from './table';

const RANKS: Readonly<Record<string, number>> = { fail: 0, warn: 1, skip: 2, pass: 3 };
const STATES: Readonly<Record<string, string>> = { fail: 'failed', warn: 'not sure', skip: 'skipped', pass: 'passed' };
const LIMITS: Readonly<Record<string, (limit: string) => string>> = {
  min: limit => `at least ${limit}`,
  max: limit => `at most ${limit}`,
  max_regression: limit => `at most ${limit} worse`
};

/** How a version stands with its gate: passed, failed or not judged yet. */
export function GateBadge({ gate }: { readonly gate: string }): JSX.Element {
  return <Chip word={standing(gate)} tone={gate === 'passed' ? 'good' : gate === 'failed' ? 'bad' : 'calm'} />;
}

/** Word an outcome as `models` tells it. Pure. */
export function standing(gate: string): string {
  return gate === '' ? 'not judged' : `gate ${plain(gate, 20)}`;
}

/** Word how many checks of a version failed; nothing where none did. Pure. */
export function failures({ n_failed: n }: ListedVersion): string {
  return n === 0 ? '' : `${number(n)} ${n === 1 ? 'check' : 'checks'} failed`;
}

/** Sort checks: failures, warnings, what was skipped, what passed; otherwise as they were. Pure. */
export function worstFirst(checks: readonly ValidationCheck[]): ValidationCheck[] {
  return [...checks].sort((a, b) => rank(a) - rank(b));
}

function rank({ status }: ValidationCheck): number {
  return own(RANKS, status) ?? 0;
}

/** Word what a check asks for. Pure. */
export function limit({ condition, limit: value }: ValidationCheck): string {
  return (own(LIMITS, condition) ?? (text => `${plain(words(condition), 40)} ${text}`))(number(value));
}

/** Word how much better than the champion a version is, between what bounds. Pure. */
export function improvement({ champion, lower, upper }: ValidationCheck): string {
  return champion === null || lower === null || upper === null ? '' : `${signed(lower)} to ${signed(upper)}`;
}

/** Word a report's verdict in one line. Pure. */
export function verdict(report: GateReport): string {
  const on = `gate ${plain(report.gate, 60)} on ${number(report.n)} rows of ${plain(report.data, 120)}`;
  const against = report.champion && `, held against version ${plain(report.champion, 20)}`;
  return `Version ${plain(report.version, 20)} ${report.passed ? 'passed' : 'failed'} ${on}${against}`;
}

/** A report in full: its verdict, then the checks, failures first. */
export function Report({ report }: { readonly report: GateReport }): JSX.Element {
  return (
    <section className="nbm-Report" aria-label={`Report of gate ${plain(report.gate, 60)}`}>
      <p>
        <GateBadge gate={report.passed ? 'passed' : 'failed'} /> {verdict(report)}
      </p>
      <Table
        headings={['verdict', 'check', 'value', 'asked', 'champion', 'better by', 'n', 'in words']}
        rows={worstFirst(report.checks)}
        row={(check, place) => <CheckRow key={place} check={check} />}
      />
      <p className="nbm-dim">
        About the bytes with digest <code title={plain(report.digest, 100)}>{plain(report.digest, 12)}</code>
      </p>
    </section>
  );
}

function CheckRow({ check }: { readonly check: ValidationCheck }): JSX.Element {
  return (
    <tr>
      <td>
        <Chip word={own(STATES, check.status) ?? plain(check.status, 20)} tone={own(TONES, check.status)} />
      </td>
      <th scope="row">{plain(check.name, 120)}</th>
      <td className="nbm-Short">{number(check.value)}</td>
      <td className="nbm-Short">{limit(check)}</td>
      <td className="nbm-Short">{number(check.champion)}</td>
      <td>{improvement(check)}</td>
      <td className="nbm-Short">{number(check.n)}</td>
      <td className="nbm-dim">{plain(check.note)}</td>
    </tr>
  );
}

const TONES: Readonly<Record<string, string>> = { fail: 'bad', warn: 'busy', skip: 'calm', pass: 'good' };

function signed(value: number | string): string {
  return typeof value === 'number' && value > 0 ? `+${number(value)}` : number(value);
}
