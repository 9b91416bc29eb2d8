/** Drift reports as they are looked at: what needs a person first, and the worst columns first. Pure. */

import { ColumnDrift, DriftEntry } from './types';

/** The smallest effect that counts as drift, as the verb's own help has it. */
export const LIMIT = 0.05;

/** Order reports: what drifted first, then what was judged last. */
export function worstFirst(entries: readonly DriftEntry[]): DriftEntry[] {
  return [...entries].sort((a, b) => Number(b.drifted) - Number(a.drifted) || Date.parse(b.at) - Date.parse(a.at));
}

/** Order columns: drifted ones first, then by effect; those that could not be tested last. */
export function ranked(columns: readonly ColumnDrift[]): ColumnDrift[] {
  const effect = ({ statistic }: ColumnDrift): number => (typeof statistic === 'number' ? statistic : -1);
  return [...columns].sort((a, b) => Number(b.drifted) - Number(a.drifted) || effect(b) - effect(a));
}

/** Word how far a report's columns drifted. */
export function verdict({ n_drifted, columns }: DriftEntry): string {
  return `${n_drifted || 'none'} of ${columns.length} columns drifted`;
}

/** How many columns had too little to be tested. */
export function nUntested({ columns }: DriftEntry): number {
  return columns.filter(({ method }) => method === '').length;
}
