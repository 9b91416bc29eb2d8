/** A table of rows under their headings; of many rows the first, and more when asked. */

import * as React from 'react';

import { number } from '../words';

const AT_ONCE = 100; // rows

interface TableProps<Row> {
  /** An empty one stands above the names of rows. */
  readonly headings: readonly React.ReactNode[];
  readonly rows: readonly Row[];
  /** Make a row's `tr`, with its key. */
  readonly row: (row: Row, place: number) => JSX.Element;
  readonly label?: string;
  readonly className?: string;
}

export function Table<Row>({ headings, rows, row, label, className }: TableProps<Row>): JSX.Element {
  const [n, setN] = React.useState(AT_ONCE);
  const left = rows.length - n;
  return (
    <div className="nbm-Table">
      <table aria-label={label} className={className}>
        <thead>
          <tr>
            {headings.map((heading, place) =>
              heading ? (
                <th key={place} scope="col">
                  {heading}
                </th>
              ) : (
                <td key={place} />
              )
            )}
          </tr>
        </thead>
        <tbody>{rows.slice(0, n).map(row)}</tbody>
      </table>
      {left > 0 && (
        <button className="jp-mod-styled" onClick={() => setN(n + AT_ONCE)}>
          Show more: {number(left)} are left
        </button>
      )}
    </div>
  );
}
