/** The time that goes on while something runs, and the moment until somebody has typed. */

import * as React from 'react';

const SETTLED_MS = 300; // without a key pressed

/** The present moment in milliseconds, told anew each second while asked to; nothing is asked of the server. */
export function useNow(goesOn: boolean): number {
  const [now, setNow] = React.useState(() => Date.now());
  React.useEffect(() => {
    if (!goesOn) {
      return undefined;
    }
    setNow(Date.now());
    const ticking = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(ticking);
  }, [goesOn]);
  return now;
}

/** What is typed, once nobody has typed for a moment. */
export function useSettled<T>(value: T): T {
  const typed = JSON.stringify(value);
  const [settled, setSettled] = React.useState(typed);
  React.useEffect(() => {
    const later = window.setTimeout(() => setSettled(typed), SETTLED_MS);
    return () => window.clearTimeout(later);
  }, [typed]);
  return React.useMemo(() => JSON.parse(settled) as T, [settled]);
}
