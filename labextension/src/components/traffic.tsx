/** The versions behind an endpoint beside each other, and a control for how they share its requests. */

import * as React from 'react';

import { Endpoint, Share } from '../types';
import { number, plain } from '../words';
import { Table } from './table';

/** The version that is live, and the one that is tried beside it. */
export interface Pair {
  readonly champion: Share;
  readonly challenger: Share;
}

/** Find the two versions that share an endpoint's requests; a shadow answers nobody and has no share. Pure. */
export function pairOf({ traffic }: Pick<Endpoint, 'traffic'>): Pair | undefined {
  const [champion, challenger] = ['champion', 'challenger'].map(role => traffic.find(each => each.role === role));
  return champion && challenger && { champion, challenger };
}

/** Weights that add up to 100, for so many percent of the challenger's. Pure. */
export function weightsOf({ champion, challenger }: Pair, percent: number): Readonly<Record<string, number>> {
  const given = Math.min(100, Math.max(0, Math.round(percent)));
  return { [champion.version]: 100 - given, [challenger.version]: given };
}

const FIGURES: readonly (readonly [name: string, shown: (share: Share) => string])[] = [
  ['share', share => (share.role === 'shadow' ? 'none' : `${number(share.weight)}\u00a0%`)],
  ['p99', share => (share.latency_p99_ms === null ? '' : `${number(share.latency_p99_ms)}\u00a0ms`)],
  ['errors', share => number(share.n_errors)],
  ['requests', share => number(share.n_requests)],
  ['shift', share => number(share.shift)],
  ['served', share => plain(share.form || 'not seen yet', 30)]
];

/** What each version does, the versions side by side. */
export function Figures({ shares }: { readonly shares: readonly Share[] }): JSX.Element {
  const told = FIGURES.filter(([, shown]) => shares.some(share => shown(share) !== ''));
  return (
    <Table
      label="Versions"
      className="nbm-Figures"
      headings={['', ...shares.map(headed)]}
      rows={told}
      row={([name, shown]) => (
        <tr key={name}>
          <th scope="row">{name}</th>
          {shares.map(share => (
            <td key={`${share.role} ${share.version}`}>{shown(share) || '–'}</td>
          ))}
        </tr>
      )}
    />
  );
}

function headed({ version, role }: Share): JSX.Element {
  return (
    <>
      {plain(version, 20)} <small className="nbm-dim">{plain(role, 20)}</small>
    </>
  );
}

interface TrafficProps {
  readonly pair: Pair;
  /** Propose weights; nothing is set by moving the slider. */
  readonly propose: (weights: Readonly<Record<string, number>>) => void;
}

/** A slider for the challenger's share. What a rollout sets meanwhile is followed until a person takes hold of it. */
export function Traffic({ pair, propose }: TrafficProps): JSX.Element {
  const id = React.useId();
  const now = Math.round(Number(pair.challenger.weight)) || 0;
  const [wished, setWished] = React.useState<number>();
  React.useEffect(() => setWished(undefined), [now, pair.challenger.version]);
  const percent = wished ?? now;
  const words = inWords(pair, percent);
  return (
    <div className="nbm-Traffic" role="group" aria-label="Traffic">
      <label htmlFor={id}>Share of version {plain(pair.challenger.version, 20)}</label>
      <input
        id={id}
        type="range"
        min={0}
        max={100}
        step={1}
        value={percent}
        aria-valuetext={words}
        onChange={event => setWished(Number(event.target.value))}
      />
      <output htmlFor={id}>{words}</output>
      <button className="jp-mod-styled" disabled={percent === now} onClick={() => propose(weightsOf(pair, percent))}>
        Set traffic …
      </button>
    </div>
  );
}

function inWords(pair: Pair, percent: number): string {
  const { champion, challenger } = pair;
  return `${plain(champion.version, 20)}: ${100 - percent}\u00a0%, ${plain(challenger.version, 20)}: ${percent}\u00a0%`;
}
