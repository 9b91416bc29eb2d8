/** A state in one word, told apart by colour and by the word itself. */

import * as React from 'react';

import { plain } from '../words';

const TONES: Readonly<Record<string, string>> = {
  good: 'ok pass passed finished answers ready completed sound done sent cached',
  bad: 'fail failed dead killed lost drifted broken silent rolled_back given_up',
  busy: 'running waiting pending queued behind partly sending scheduled',
  calm: 'skip skipped paused elsewhere muted'
};

/** How a word is meant. Pure. */
export function toneOf(word: string): string {
  const first = word.toLowerCase().split(/[\s:]/)[0];
  return Object.keys(TONES).find(tone => TONES[tone].split(' ').includes(first)) ?? 'plain';
}

export function Chip({ word, tone }: { readonly word: string; readonly tone?: string }): JSX.Element {
  return <span className={`nbm-Chip nbm-mod-${tone ?? toneOf(word)}`}>{plain(word, 40)}</span>;
}
