/** Successive answers about an endpoint, kept for plots over time: bounded in number, over as long as they came. Pure. */

import { Float, Share } from './types';

/** What one version had done up to a moment, in milliseconds since 1970. */
export interface Sample {
  readonly at: number;
  readonly versions: readonly Counted[];
}

/** The counts of one version since its server started. */
export interface Counted {
  readonly name: string;
  readonly n_requests: number;
  readonly n_errors: number;
  readonly p99_ms: Float | null;
}

/** A value of one version at a moment; null leaves a gap. */
export interface Point {
  readonly at: number;
  readonly version: string;
  readonly value: number | null;
}

/** The time between two samples at least, and the number of them that begins to be thinned out. */
export const EVERY_MS = 2000;
export const MOST_SAMPLES = 400;

/** Say what an endpoint's versions have done by now. */
export function sampled(shares: readonly Share[], at: number): Sample {
  const versions = shares.map(({ version, role, n_requests, n_errors, latency_p99_ms }) => ({
    name: `${version} ${role}`,
    n_requests,
    n_errors,
    p99_ms: latency_p99_ms
  }));
  return { at, versions };
}

/**
 * Add a sample. The newest takes the place of the one before until that one is two seconds after its own predecessor;
 * of too many every second one goes, so that they still reach from the first to the last.
 */
export function kept(samples: readonly Sample[], next: Sample): readonly Sample[] {
  const isEarly = samples.length > 1 && samples[samples.length - 1].at - samples[samples.length - 2].at < EVERY_MS;
  const all = [...(isEarly ? samples.slice(0, -1) : samples), next];
  return all.length > MOST_SAMPLES ? all.filter((_, n) => n % 2 === 0 || n === all.length - 1) : all;
}

/** Whether nothing was counted between the two newest samples, or there are none to compare. */
export function isAtRest(samples: readonly Sample[]): boolean {
  const [before, now] = samples.slice(-2);
  return now === undefined || JSON.stringify(before.versions) === JSON.stringify(now.versions);
}

/** The 99th percentile of the latencies, in milliseconds. */
export function latencies(samples: readonly Sample[]): Point[] {
  return points(samples, counted => (typeof counted.p99_ms === 'number' ? counted.p99_ms : null));
}

/** How many requests ended in an error. */
export function errors(samples: readonly Sample[]): Point[] {
  return points(samples, counted => counted.n_errors);
}

/** Requests per second since the sample before; a gap where a server has begun to count anew. */
export function rates(samples: readonly Sample[]): Point[] {
  return points(samples, (counted, n) => {
    const before = samples[n - 1]?.versions.find(each => each.name === counted.name);
    const gained = before ? counted.n_requests - before.n_requests : -1;
    return gained < 0 ? null : (gained * 1000) / Math.max(samples[n].at - samples[n - 1].at, 1);
  });
}

function points(samples: readonly Sample[], value: (counted: Counted, n: number) => number | null): Point[] {
  return samples.flatMap(({ at, versions }, n) =>
    versions.map(counted => ({ at, version: counted.name, value: value(counted, n) }))
  );
}
