/** Any result of a verb, shown from its JSON alone: facts, and tables of what it lists. */

import * as React from 'react';

import { cell, lines, plain, words } from '../words';
import { Table } from './table';

type Row = Readonly<Record<string, unknown>>;

/** Show a result that has no view of its own. */
export function Card({ result }: { readonly result: unknown }): JSX.Element {
  if (typeof result === 'string') {
    return <pre className="nbm-Text">{lines(result)}</pre>;
  }
  if (isTable(result)) {
    return <Rows rows={result} />;
  }
  if (Array.isArray(result)) {
    return <p className="nbm-dim">{result.length ? cell(result) : 'Nothing yet.'}</p>;
  }
  const fields = Object.entries((result ?? {}) as Row).filter(([, value]) => !isEmpty(value));
  const tables = fields.filter(([, value]) => isTable(value));
  const facts = fields.filter(([, value]) => !isTable(value));
  return (
    <div className="nbm-Card">
      <Facts of={Object.fromEntries(facts.map(([name, value]) => [words(name), value]))} />
      {tables.map(([name, rows]) => (
        <section key={name}>
          <h4>{words(name)}</h4>
          <Rows rows={rows as readonly Row[]} />
        </section>
      ))}
    </div>
  );
}

/** Values under the names that they have. */
export function Facts({ of }: { readonly of: Row }): JSX.Element {
  return (
    <dl>
      {Object.entries(of).map(([name, value]) => (
        <React.Fragment key={name}>
          <dt>{plain(name, 80)}</dt>
          <dd>{cell(value)}</dd>
        </React.Fragment>
      ))}
    </dl>
  );
}

function Rows({ rows }: { readonly rows: readonly Row[] }): JSX.Element {
  const columns = [...new Set(rows.flatMap(row => Object.keys(row)))].filter(name =>
    rows.some(row => !isEmpty(row[name]))
  );
  return (
    <Table
      headings={columns.map(words)}
      rows={rows}
      row={(row, n) => (
        <tr key={n}>
          {columns.map(name => (
            <td key={name}>{cell(row[name])}</td>
          ))}
        </tr>
      )}
    />
  );
}

function isTable(value: unknown): value is readonly Row[] {
  return Array.isArray(value) && value.length > 0 && value.every(each => typeof each === 'object' && each !== null);
}

function isEmpty(value: unknown): boolean {
  const isNothing = value === null || value === undefined || value === '';
  return isNothing || (typeof value === 'object' && Object.keys(value).length === 0);
}
