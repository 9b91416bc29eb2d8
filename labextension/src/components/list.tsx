/** A list of which only the rows in view exist, however long it is. */

import * as React from 'react';

interface WindowedListProps {
  /** How many rows there are as far as is known. */
  readonly n: number;
  readonly height: number;
  readonly label: string;
  readonly row: (n: number) => React.ReactNode;
  /** What a row is about, which keeps the focus when it moves; undefined while that is not known. */
  readonly about: (n: number) => string | undefined;
  /** The rows in view have changed: from the first to before the last. */
  readonly onView?: (from: number, to: number) => void;
}

const BEYOND = 8; // rows above and below those in view, so that scrolling shows no gap

/** Show rows of one height, each made when it comes into view. */
export function WindowedList({ n, height, label, row, about, onView }: WindowedListProps): JSX.Element {
  const node = React.useRef<HTMLDivElement>(null);
  const [[from, to], setView] = React.useState<readonly [number, number]>([0, 30]);
  const look = React.useCallback((): void => {
    if (node.current) {
      const { scrollTop, clientHeight } = node.current;
      const first = Math.max(0, Math.floor(scrollTop / height) - BEYOND);
      const last = Math.ceil((scrollTop + clientHeight) / height) + BEYOND;
      setView(before => (before[0] === first && before[1] === last ? before : [first, last]));
    }
  }, [height]);

  React.useEffect(() => {
    look();
    const watching = new ResizeObserver(look);
    node.current && watching.observe(node.current);
    return () => watching.disconnect();
  }, [look]);
  React.useEffect(() => onView?.(from, Math.min(to, n)), [from, to, n, onView]);

  const rows = Array.from({ length: Math.max(0, Math.min(to, n) - from) }, (_, place) => from + place);
  return (
    <div className="nbm-List" ref={node} onScroll={look} tabIndex={-1}>
      <ul aria-label={label} style={{ height: n * height }}>
        {rows.map(place => (
          <li
            key={about(place) ?? place}
            aria-setsize={n}
            aria-posinset={place + 1}
            style={{ height, transform: `translateY(${place * height}px)` }}
          >
            {row(place)}
          </li>
        ))}
      </ul>
    </div>
  );
}
