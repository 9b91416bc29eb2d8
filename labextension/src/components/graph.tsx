/** A pipeline drawn: what a step needs stands to its left; each step is a button that tells its state in a word. */

import * as React from 'react';

import { plain } from '../words';
import { toneOf } from './chip';

/** A step as it is drawn. */
export interface GraphNode {
  readonly name: string;
  readonly does: string;
  readonly state: string;
  /** Whether a person is asked. */
  readonly isQuestion: boolean;
  /** How many steps stand before it, one behind the other. */
  readonly column: number;
}

/** From a step to one that needs it. */
export type Edge = readonly [from: string, to: string];

const [WIDTH, HEIGHT, ROW, GAP, MARGIN] = [176, 48, 64, 36, 8]; // pixels: a box, a row, between columns, around all
const LETTERS = 22; // of a name
const SWEEPS = 6; // of putting columns in order; more change nothing visible

interface GraphProps {
  readonly label: string;
  readonly nodes: readonly GraphNode[];
  readonly edges: readonly Edge[];
  readonly selected: string;
  readonly select: (name: string) => void;
}

/** Draw steps and what follows from what. */
export function Graph({ label, nodes, edges, selected, select }: GraphProps): JSX.Element {
  const places = nodes.map(({ name, column }): [string, number] => [name, column]);
  const question = JSON.stringify([places, edges]);
  const { spots, lines, width, height } = React.useMemo(() => laidOut(new Map(places), edges), [question]);
  return (
    <div className="nbm-Graph">
      <svg role="group" aria-label={label} viewBox={`0 0 ${width} ${height}`} width={width} height={height}>
        <g aria-hidden="true">
          {lines.map((d, n) => (
            <path key={n} className="nbm-Graph-line" d={d} />
          ))}
        </g>
        {nodes.map(node => (
          <Node
            key={node.name}
            node={node}
            spot={spots.get(node.name) as Spot}
            needs={edges.filter(([, to]) => to === node.name).map(([from]) => from)}
            isSelected={selected === node.name}
            select={() => select(node.name)}
          />
        ))}
      </svg>
    </div>
  );
}

interface NodeProps {
  readonly node: GraphNode;
  readonly spot: Spot;
  readonly needs: readonly string[];
  readonly isSelected: boolean;
  readonly select: () => void;
}

function Node({ node, spot: [x, y], needs, isSelected, select }: NodeProps): JSX.Element {
  const press = (event: React.KeyboardEvent): void => {
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      select();
    }
  };
  const after = needs.length ? `, after ${needs.join(' and ')}` : '';
  const tone = `nbm-mod-${toneOf(node.state)}${node.isQuestion ? ' nbm-mod-asks' : ''}`;
  return (
    <g
      className={`nbm-Node ${tone}`}
      role="button"
      tabIndex={0}
      aria-pressed={isSelected}
      aria-label={plain(`${node.name}${node.state && `, ${node.state}`}${after}`)}
      onClick={select}
      onKeyDown={press}
    >
      <title>{plain(`${node.name}: ${node.does}`)}</title>
      <rect x={x} y={y - HEIGHT / 2} width={WIDTH} height={HEIGHT} rx={6} />
      <text x={x + 10} y={y - 4} className="nbm-Node-name">
        {plain(node.name, LETTERS - Math.ceil(node.state.slice(0, 12).length * 0.9))}
      </text>
      <text x={x + WIDTH - 10} y={y - 4} textAnchor="end" className="nbm-Node-state">
        {plain(node.state, 12)}
      </text>
      <text x={x + 10} y={y + 13} className="nbm-Node-does">
        {plain(node.does, 26)}
      </text>
    </g>
  );
}

// ------------------------------------------------------------------ where each stands
type Spot = readonly [left: number, middle: number];
type Columns = ReadonlyMap<string, number>;

interface Layout {
  readonly spots: ReadonlyMap<string, Spot>;
  /** The lines, as SVG has them. */
  readonly lines: readonly string[];
  readonly width: number;
  readonly height: number;
}

/** Find a place for each step in its column; what passes a column has a row of it. Pure. */
export function laidOut(place: Columns, edges: readonly Edge[]): Layout {
  const columns: string[][] = Array.from({ length: Math.max(0, ...place.values()) + 1 }, () => []);
  place.forEach((column, name) => columns[column].push(name));
  const known = edges.filter(([from, to]) => place.has(from) && place.has(to));
  const links = known.flatMap(edge => passing(edge, place, columns));
  const ordered = untangled(columns, links);
  const tallest = Math.max(1, ...ordered.map(column => column.length));
  const spots = new Map<string, Spot>(
    ordered.flatMap((column, x) =>
      column.map((name, y): [string, Spot] => [
        name,
        [MARGIN + x * (WIDTH + GAP), MARGIN + HEIGHT / 2 + ROW * (y + (tallest - column.length) / 2)]
      ])
    )
  );
  return {
    spots,
    lines: [...links.map(link => drawn(link, spots)), ...straight(spots)],
    width: MARGIN * 2 + columns.length * (WIDTH + GAP) - GAP,
    height: MARGIN * 2 + tallest * ROW - (ROW - HEIGHT)
  };
}

const PASSING = '\0'; // begins the name of a place where a line passes a column

function passing([from, to]: Edge, place: Columns, columns: string[][]): Edge[] {
  const links: Edge[] = [];
  let before = from;
  for (let column = (place.get(from) as number) + 1; column < (place.get(to) as number); column++) {
    const spot = [PASSING, from, to, column].join('\0');
    columns[column].push(spot);
    links.push([before, spot]);
    before = spot;
  }
  return [...links, [before, to]];
}

/** Put each column in the order of the middles of its neighbours, to and fro. */
function untangled(columns: readonly string[][], links: readonly Edge[]): string[][] {
  const ordered = columns.map(column => [...column]);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const [here, there] = sweep % 2 ? [0, 1] : [1, 0];
    for (const column of sweep % 2 ? [...ordered].reverse() : ordered) {
      const at = new Map(
        ordered.flatMap(each => each.map((name, y): [string, number] => [name, y - (each.length - 1) / 2]))
      );
      const mean = (name: string): number => {
        const found = links.filter(link => link[here] === name).map(link => at.get(link[there]) as number);
        return found.length ? found.reduce((a, b) => a + b, 0) / found.length : (at.get(name) as number);
      };
      const means = new Map(column.map(name => [name, mean(name)]));
      column.sort((a, b) => (means.get(a) as number) - (means.get(b) as number));
    }
  }
  return ordered;
}

function drawn([from, to]: Edge, spots: ReadonlyMap<string, Spot>): string {
  const [[x, y1], [x2, y2]] = [spots.get(from) as Spot, spots.get(to) as Spot];
  const x1 = x + WIDTH;
  const middle = (x1 + x2) / 2;
  return `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
}

function straight(spots: ReadonlyMap<string, Spot>): string[] {
  return [...spots].filter(([name]) => name.startsWith(PASSING)).map(([, [x, y]]) => `M${x} ${y}h${WIDTH}`);
}
