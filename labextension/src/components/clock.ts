/** The time that goes on while something runs. */

import * as React from 'react';

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
