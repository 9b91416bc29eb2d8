/** A curve as small as a word. */

import * as React from 'react';

import { number } from '../words';

const [WIDTH, HEIGHT] = [60, 16];

interface SparklineProps {
  readonly values: readonly (number | string)[];
  readonly label: string;
}

/** Draw values from left to right; what is not finite leaves a gap. */
export function Sparkline({ values, label }: SparklineProps): JSX.Element | null {
  const finite = values.filter((value): value is number => typeof value === 'number');
  if (finite.length < 2) {
    return null;
  }
  const described = `${label}: from ${number(finite[0])} to ${number(finite[finite.length - 1])}`;
  return (
    <svg className="nbm-Sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={described}>
      <path d={path(values)} />
    </svg>
  );
}

/** The way through the values, as SVG has it. Pure. */
export function path(values: readonly (number | string)[]): string {
  const finite = values.filter((value): value is number => typeof value === 'number');
  const low = Math.min(...finite);
  const span = Math.max(...finite) - low || 1;
  let pen = 'M';
  const points = values.map((value, n) => {
    if (typeof value !== 'number') {
      pen = 'M';
      return '';
    }
    const x = (n / Math.max(values.length - 1, 1)) * WIDTH;
    const y = HEIGHT - 1 - ((value - low) / span) * (HEIGHT - 2);
    const point = `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = 'L';
    return point;
  });
  return points.join('');
}
